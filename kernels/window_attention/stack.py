"""Limited-context attention by PyTorch's own attention: on the CPU, and on GPUs where it is the faster. For softmax without slopes."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..library import looks_free


def window_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor,
    bias: Tensor | None,
    chunk: int,
    left: int,
    scale: float,
    mask: Callable[[], Tensor] | None,
) -> Tensor:
    """See ``riverrun.kernels.window_attention``. Plain PyTorch, with its gradients; no shape depends on the data."""
    frames = q.shape[1]
    padded = not looks_free(q) or bool((lengths < frames).any())
    t = torch.arange(frames, device=q.device)
    real = t < lengths[:, None]
    if padded:  # 0 · NaN is NaN
        q, k, v = (torch.where(real[..., None, None], x, x.new_zeros(())) for x in (q, k, v))
    sees: Tensor | None = None
    if mask is not None:
        sees = mask()[:, None]
    elif padded or chunk < frames:
        sees = _sees(real, chunk, left)[:, None]
    if bias is not None:
        column = (t[:, None] - t + chunk - 1).clamp(0, bias.shape[3] - 1)  # distances out of range are masked
        spread = bias.expand(-1, -1, frames, -1).gather(-1, column.expand(*bias.shape[:2], -1, -1)).to(q.dtype)
        sees = spread if sees is None else spread.masked_fill(~sees, -torch.inf)
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=sees, scale=scale, enable_gqa=q.shape[1] != k.shape[1]).transpose(1, 2)
    return torch.where(real[..., None, None], out, out.new_zeros(())) if padded else out


def _sees(real: Tensor, chunk: int, left: int) -> Tensor:
    """(B, T, T): True where a frame may look at a real frame."""
    t = torch.arange(real.shape[1], device=real.device)
    start = (t // chunk * chunk)[:, None]
    return (t >= start - left) & (t < start + chunk) & real[:, None]
