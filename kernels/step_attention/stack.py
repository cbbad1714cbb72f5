"""Step attention by PyTorch's own attention: on the CPU, and on GPUs where it is the faster. For softmax without sinks.

Plain PyTorch: it can be traced, exported and compiled, and no shape depends on the data. Only outside of all that, on the CPU, are values
looked at, to leave out work: copies instead of gathers where all streams stand at one place of their rings, and no mask where all see all.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..library import looks_free


def step_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    slots: Tensor | None,
    lengths: Tensor,
    keys: Tensor,
    values: Tensor,
    seen: Tensor,
    cos: Tensor | None,
    sin: Tensor | None,
    bias: Tensor | None,
    chunk: int,
    scale: float,
) -> Tensor:
    """See ``riverrun.kernels.step_attention``. Writes ``keys`` and ``values``."""
    left, frames = keys.shape[1], q.shape[1]
    heard = seen if slots is None else seen[slots]
    first, everything = None, False  # the ring row of the oldest frame, where all streams share it; whether all frames are real and seen
    if looks_free(q):
        ends = heard.tolist()
        places = {end % max(left, 1) for end in ends}
        first = places.pop() if len(places) == 1 else None
        everything = frames <= chunk and min(ends, default=0) >= left and all(n == frames for n in lengths.tolist())

    window_k, window_v = _window(keys, k, slots, heard, first), _window(values, v, slots, heard, first)
    mask = None
    if not everything:
        t = torch.arange(-left, frames, device=q.device)
        real = (t >= -heard[:, None]) & (t < lengths[:, None])
        start = (t[left:] // chunk * chunk)[:, None]
        mask = ((t >= start - left) & (t < start + chunk) & real[:, None])[:, None]
        window_k, window_v = (torch.where(real[..., None, None], x, x.new_zeros(())) for x in (window_k, window_v))  # 0 · NaN is NaN
    if bias is not None:
        mask = _spread(bias, left, frames, chunk, mask).to(q.dtype)
    if cos is not None and sin is not None:
        q, window_k = _rotate(q, cos, sin, left), _rotate(window_k, cos, sin, 0)
    q, window_k, window_v = (x.transpose(1, 2) for x in (q, window_k, window_v))
    out = F.scaled_dot_product_attention(
        q, window_k, window_v, attn_mask=mask, scale=scale, enable_gqa=q.shape[1] != window_k.shape[1]
    ).transpose(1, 2)
    if left:
        if everything and first is not None:
            _append(keys, k, slots, first)
            _append(values, v, slots, first)
        else:
            _overwrite(keys, k, slots, heard, lengths)
            _overwrite(values, v, slots, heard, lengths)
    if everything:
        return out
    here = torch.arange(frames, device=q.device)
    return torch.where((here < lengths[:, None])[..., None, None], out, out.new_zeros(()))


def _window(cache: Tensor, x: Tensor, slots: Tensor | None, heard: Tensor, first: int | None) -> Tensor:
    """The past of each row in order of time, and behind it what is new: (S, left + C, H, D)."""
    left = cache.shape[1]
    if first is not None:
        cache = cache if slots is None else cache[slots]
        return torch.cat([cache[:, first:], cache[:, :first], x], 1)
    rows = (heard[:, None] + torch.arange(left, device=x.device)) % max(left, 1)
    at = torch.arange(len(x), device=x.device) if slots is None else slots
    return torch.cat([cache[at[:, None], rows], x], 1)


def _spread(bias: Tensor, left: int, frames: int, chunk: int, mask: Tensor | None) -> Tensor:
    """A bias by distance (S or 1, H, C or 1, W) at every frame of the window, −∞ where it is not seen."""
    t = torch.arange(-left, frames, device=bias.device)
    column = (t[left:, None] - t + chunk - 1).clamp(0, bias.shape[3] - 1)  # distances out of range are masked
    spread = bias.expand(-1, -1, frames, -1).gather(-1, column.expand(*bias.shape[:2], -1, -1))
    return spread if mask is None else spread.masked_fill(~mask, -torch.inf)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor, first: int) -> Tensor:
    """Rotate frames (S, n, H, D) that stand at positions ``first``, ``first`` + 1, …"""
    cos, sin = (t[first : first + x.shape[1], None] for t in (cos, sin))
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)


def _append(cache: Tensor, x: Tensor, slots: Tensor | None, first: int) -> None:
    """Write all frames (S, C, H, D) into the rings, from row ``first`` on."""
    left, frames = cache.shape[1], x.shape[1]
    at = slice(None) if slots is None else slots
    for i in range(max(frames - left, 0), frames):
        row = (first + i) % left
        if i == max(frames - left, 0) or row == 0:
            size = min(frames - i, left - row)
            cache[at, row : row + size] = x[:, i : i + size]


def _overwrite(cache: Tensor, x: Tensor, slots: Tensor | None, heard: Tensor, lengths: Tensor) -> None:
    """Write each row's frames into its ring; every row of the ring is written, most with what it held."""
    left = cache.shape[1]
    if not x.shape[1]:
        return
    at = torch.arange(len(x), device=x.device) if slots is None else slots
    end = heard + lengths
    back = (end[:, None] - 1 - torch.arange(left, device=x.device)) % left  # frames from a ring row's newest frame to the end
    newest = lengths[:, None] - 1 - back
    index = newest.clamp(min=0)[..., None, None].expand(-1, -1, *x.shape[2:])
    cache[at] = torch.where((newest >= 0)[..., None, None], x.gather(1, index), cache[at])
