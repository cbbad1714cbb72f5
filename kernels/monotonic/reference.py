"""Expected monotonic attention in plain torch: the definition that the kernels are held to.

Every sum over frames is a first-order linear recurrence with factors in [0, 1]: nothing is divided, nothing overflows.
Tensors are (R, U, T): rows (batch and heads), labels, frames; none is empty.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def recurrence(factor: Tensor, x: Tensor) -> Tensor:
    """y_j = factor_j · y_{j−1} + x_j over the last axis, in log₂ T doubling steps."""
    span = 1
    while span < x.shape[-1]:
        x = x + factor * F.pad(x[..., :-span], (span, 0))
        factor = factor * F.pad(factor[..., :-span], (span, 0))
        span *= 2
    return x


def reverse_recurrence(factor: Tensor, x: Tensor) -> Tensor:
    """y_j = factor_{j+1} · y_{j+1} + x_j over the last axis."""
    return recurrence(F.pad(factor, (-1, 1)).flip(-1), x.flip(-1)).flip(-1)


def alignment(p: Tensor) -> tuple[Tensor, Tensor]:
    """Probability that label i is attended at frame j (Raffel et al., 2017), and that frame j is inspected for it.

    q_{i,j} = (1 − p_{i,j−1}) q_{i,j−1} + α_{i−1,j};  α_i = p_i q_i;  α_0 = (1, 0, 0, …).

    Args:
        p: (R, U, T) probability of stopping at a frame that is inspected.

    Returns:
        α and q, (R, U, T).
    """
    pass_on = F.pad(1 - p, (1, -1))
    previous = torch.zeros_like(p.sum(1))
    previous[:, :1] = 1
    inspected = []
    for i in range(p.shape[1]):
        inspected.append(recurrence(pass_on[:, i], previous))
        previous = p[:, i] * inspected[-1]
    q = torch.stack(inspected, 1)
    return p * q, q


def alignment_backward(grad: Tensor, p: Tensor, q: Tensor) -> Tensor:
    """Gradient of p from that of α, with ᾱ and q̄ the gradients of α and q.

    ᾱ_{i,j} = g_{i,j} + q̄_{i+1,j};  q̄_{i,j} = p_{i,j} ᾱ_{i,j} + (1 − p_{i,j}) q̄_{i,j+1};  p̄_{i,j} = q_{i,j} (ᾱ_{i,j} − q̄_{i,j+1}).
    """
    q_grad, out = torch.zeros_like(grad.sum(1)), torch.empty_like(grad)
    for i in reversed(range(p.shape[1])):
        alpha_grad = grad[:, i] + q_grad
        factor = 1 - p[:, i]
        q_grad = reverse_recurrence(F.pad(factor, (1, -1)), p[:, i] * alpha_grad)
        out[:, i] = q[:, i] * (alpha_grad - F.pad(q_grad, (-1, 1)))
    return out


def log_normaliser(energy: Tensor, width: int) -> Tensor:
    """D_k = log Σ exp(u_l) over the ``width`` frames that end in k; over all frames up to k for width 0."""
    if width == 0:
        return energy.logcumsumexp(-1)
    return F.pad(energy, (width - 1, 0), value=float("-inf")).unfold(-1, width, 1).logsumexp(-1)


def spread(x: Tensor, energy: Tensor, norm: Tensor, width: int) -> Tensor:
    """y_j = Σ_k x_k exp(u_j − D_k) over the frames k whose window holds j: j ≤ k < j + width."""
    if width == 0:
        keep = _ratio(F.pad(norm, (1, -1), value=float("-inf")), norm)
        return _ratio(energy, norm) * reverse_recurrence(keep, x)
    room = (0, width - 1)
    windows = F.pad(x, room).unfold(-1, width, 1), F.pad(norm, room, value=float("inf")).unfold(-1, width, 1)
    return (windows[0] * _ratio(energy[..., None], windows[1])).sum(-1)


def collect(x: Tensor, energy: Tensor, norm: Tensor, width: int) -> Tensor:
    """y_k = Σ_j x_j exp(u_j − D_k) over the window k − width < j ≤ k: the transpose of ``spread``."""
    if width == 0:
        keep = _ratio(F.pad(norm, (1, -1), value=float("-inf")), norm)
        return recurrence(keep, x * _ratio(energy, norm))
    room = (width - 1, 0)
    windows = F.pad(x, room).unfold(-1, width, 1), F.pad(energy, room, value=float("-inf")).unfold(-1, width, 1)
    return (windows[0] * _ratio(windows[1], norm[..., None])).sum(-1)


def _ratio(above: Tensor, below: Tensor) -> Tensor:
    """exp(above − below), at most 1, and 0 where a window holds no frame."""
    return torch.where(above == float("-inf"), 0, above - below).exp() * (above != float("-inf"))
