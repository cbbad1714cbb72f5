"""Gate, causal depthwise convolution, layer norm and SiLU in plain torch: the definition that the kernels are held to."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def forward(x: Tensor, weight: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """See ``riverrun.kernels.convolution``, with weights (C, K). Half types are summed in float32.

    Returns:
        The output and what the layer norm got, both (B, T, C) in the dtype of ``x``.
    """
    convolved = _convolve(F.pad(_gate(x), (0, 0, weight.shape[1] - 1, 0)), weight, bias).to(x.dtype)  # rounded as it is kept
    return _norm(_wide(convolved), gamma, beta, eps).to(x.dtype), convolved


def step(
    x: Tensor,
    slots: Tensor | None,
    lengths: Tensor,
    state: Tensor,
    weight: Tensor,
    bias: Tensor,
    gamma: Tensor,
    beta: Tensor,
    eps: float,
) -> Tensor:
    """The same for one step of many streams; writes ``state``."""
    slots = torch.arange(len(x), device=x.device) if slots is None else slots
    t = torch.arange(x.shape[1], device=x.device)
    gated = _gate(x)
    window = torch.cat([state[slots], gated], 1)
    y = _norm(_wide(_convolve(window, weight, bias).to(x.dtype)), gamma, beta, eps).to(x.dtype)
    index = lengths[:, None] + torch.arange(state.shape[1], device=x.device)
    heard = lengths > 0
    state[slots[heard]] = window.gather(1, index[..., None].expand(-1, -1, window.shape[2]))[heard]
    return torch.where((t < lengths[:, None])[..., None], y, y.new_zeros(()))


def backward(
    grad: Tensor, x: Tensor, convolved: Tensor, weight: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, weight, bias, gamma and beta, from what ``forward`` kept."""
    taps = weight.shape[1]
    window = F.pad(_wide(_gate(x)), (0, 0, taps - 1, 0))
    convolved = _wide(convolved)
    centred = convolved - convolved.mean(-1, keepdim=True)
    inverse = (centred.square().mean(-1, keepdim=True) + eps).rsqrt()
    unit = centred * inverse
    z = unit * gamma + beta
    s = z.sigmoid()
    dz = _wide(grad) * s * (1 + z * (1 - s))
    dunit = dz * gamma
    dconvolved = inverse * (dunit - dunit.mean(-1, keepdim=True) - unit * (dunit * unit).mean(-1, keepdim=True))
    dweight = torch.einsum("btc,btck->ck", dconvolved, window.unfold(1, taps, 1)) if x.shape[1] else torch.zeros_like(weight)
    dgated = _convolve(F.pad(dconvolved, (0, 0, 0, taps - 1)), weight.flip(1), None)
    a, b = _wide(x).chunk(2, -1)
    open_ = b.sigmoid()
    dx = torch.cat([dgated * open_, dgated * a * open_ * (1 - open_)], -1)
    gradients = dx, dweight, dconvolved.sum((0, 1)), (dz * unit).sum((0, 1)), dz.sum((0, 1))
    return tuple(g.to(like.dtype) for g, like in zip(gradients, (x, weight, bias, gamma, beta), strict=True))  # type: ignore[return-value]


def _gate(x: Tensor) -> Tensor:
    return F.glu(_wide(x)).to(x.dtype)  # rounded once, as a stream's state is


def _convolve(window: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Windows (B, K − 1 + T, C) -> (B, T, C)."""
    window = _wide(window)
    if window.shape[1] < weight.shape[1]:
        return window[:, :0]
    bias = None if bias is None else bias.to(window.dtype)
    return F.conv1d(window.transpose(1, 2), weight[:, None].to(window.dtype), bias, groups=len(weight)).transpose(1, 2)


def _norm(y: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
    return F.silu(F.layer_norm(y, y.shape[-1:], gamma.to(y.dtype), beta.to(y.dtype), eps))


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
