"""Step attention in plain torch: the definition that the kernel is held to.

Frames are counted from the first frame of a step: negative ones are past, and lie in the ring.
"""

from __future__ import annotations

import torch
from torch import Tensor


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
    sinks: int,
    scale: float,
    sigmoid: float | None,
) -> Tensor:
    """See ``riverrun.kernels.step_attention``. Writes ``keys`` and ``values``; half types are summed in float32.

    Rows [0, sinks) of a cache are a stream's first frames, the others a ring in which frame n of a stream has row n mod left.
    """
    device, here = q.device, torch.arange(q.shape[1], device=q.device)
    left = keys.shape[1] - sinks
    slots = torch.arange(len(q), device=device) if slots is None else slots
    heard, at = seen[slots][:, None], slots[:, None].long()
    real = here < lengths[:, None]
    start = here // chunk * chunk  # of a query's chunk

    early = real & (heard + here < sinks)
    _write(keys, values, k, v, at, heard + here, early)
    past = torch.arange(-left, 0, device=device)
    rows = sinks + (heard + past) % max(left, 1)
    frame = torch.cat([past, here])
    there = torch.cat([past >= -heard, real], 1)
    window_k = torch.cat([keys[at, rows], k], 1)
    window_v = torch.cat([values[at, rows], v], 1)
    score = _score(_rotate(q, cos, sin, left + here), _rotate(window_k, cos, sin, left + frame))
    score = _add(score * scale, bias, here[:, None] - frame + chunk - 1)
    mask = there[:, None] & (frame >= start[:, None] - left) & (frame < start[:, None] + chunk)

    if sinks:
        # A sink stands right before the window, or where it really was while that is nearer.
        first = torch.arange(sinks, device=device)
        position = heard + here - (heard + start - left - sinks).clamp(min=0)
        kept = _score(_rotate(q, cos, sin, position), _rotate(keys[slots, :sinks], cos, sin, first))
        kept = _add(kept * scale, bias, position[..., None] - first + chunk - 1)
        score = torch.cat([kept, score], -1)
        mask = torch.cat([first < (heard + start - left)[..., None], mask], -1)
        window_v = torch.cat([values[slots, :sinks], window_v], 1)
        there = torch.cat([first < heard + lengths[:, None], there], 1)

    mask = (mask & real[:, :, None])[:, None]
    if sigmoid is None:
        score = score.masked_fill(~mask, -torch.inf)
        weights = torch.where(score.isneginf().all(-1, keepdim=True), 0, score.softmax(-1))
    else:
        weights = (score + sigmoid).sigmoid().masked_fill(~mask, 0)
    window_v = window_v.masked_fill(~there[..., None, None], 0).to(weights.dtype)
    out = torch.einsum("shck,skhd->schd", weights, _per_query_head(window_v, q)).to(q.dtype)
    _write(keys, values, k, v, at, sinks + (heard + here) % max(left, 1), real & (here >= lengths[:, None] - left))
    return out


def _write(keys: Tensor, values: Tensor, k: Tensor, v: Tensor, at: Tensor, rows: Tensor, which: Tensor) -> None:
    place = at.expand_as(which)[which], rows[which]
    keys[place], values[place] = k[which], v[which]


def _rotate(x: Tensor, cos: Tensor | None, sin: Tensor | None, position: Tensor) -> Tensor:
    """Rotate x (S, n, H, D) by the rows of the tables (R, D/2) that belong to its frames' positions (n,) or (S, n)."""
    if cos is None or sin is None:
        return x
    a, b = x.chunk(2, -1)
    # A row beyond a stream's end may point past the table; nobody sees it.
    cos, sin = (t[position.clamp(max=len(t) - 1)][..., None, :] for t in (cos, sin))
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(x.dtype)


def _score(q: Tensor, k: Tensor) -> Tensor:
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    return torch.einsum("schd,skhd->shck", q.to(wide), _per_query_head(k, q).to(wide))


def _per_query_head(x: Tensor, q: Tensor) -> Tensor:
    return x.repeat_interleave(q.shape[2] // x.shape[2], 2)


def _add(score: Tensor, bias: Tensor | None, column: Tensor) -> Tensor:
    """Add the entries of bias (S or 1, H, C or 1, W) in columns (C, n) or (S, C, n)."""
    if bias is None:
        return score
    column = column.clamp(0, bias.shape[-1] - 1)  # distances out of range are masked
    column = column[:, None] if column.dim() == 3 else column
    return score + bias.expand(*score.shape[:3], -1).gather(-1, column.expand_as(score)).to(score.dtype)
