"""The middle of a causal convolution module by PyTorch's own layers: on the CPU, and on GPUs where they are the faster."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..library import looks_free


def forward(x: Tensor, weight: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
    """See ``riverrun.kernels.convolution.causal_convolution``, with weights (C, 1, K)."""
    return _behind(F.pad(F.glu(x), (0, 0, weight.shape[2] - 1, 0)), weight, bias, gamma, beta, eps).to(x.dtype)


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
    """See ``riverrun.kernels.convolution.causal_convolution_step``; writes ``state``. No shape depends on the data."""
    past = state.shape[1]
    window = torch.cat([state if slots is None else state[slots], F.glu(x)], 1)
    y = _behind(window, weight, bias, gamma, beta, eps).to(x.dtype)
    if looks_free(x) and all(n == x.shape[1] for n in lengths.tolist()):
        state[slice(None) if slots is None else slots] = window[:, x.shape[1] :]
        return y
    t = torch.arange(max(past, x.shape[1]), device=x.device)
    index = (lengths[:, None] + t[:past])[..., None].expand(-1, -1, window.shape[2])
    state[slice(None) if slots is None else slots] = window.gather(1, index)  # rows of length 0 get what they had
    return torch.where((t[: x.shape[1]] < lengths[:, None])[..., None], y, y.new_zeros(()))


def _behind(window: Tensor, weight: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
    """Gated frames (B, K − 1 + T, C) -> (B, T, C)."""
    if window.shape[1] < weight.shape[2]:
        return window[:, :0]
    y = F.conv1d(window.to(weight.dtype).transpose(1, 2), weight, bias, groups=len(weight)).transpose(1, 2)
    return F.silu(F.layer_norm(y, (len(weight),), gamma, beta, eps))
