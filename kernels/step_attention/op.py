"""Step attention as a PyTorch operator that changes its caches in place."""

from __future__ import annotations

import torch
from torch import Tensor

from ..dispatch import prefers_triton, streams
from ..library import operator, runs_triton
from . import reference, stack

#: Wider heads take PyTorch's attention, or the definition.
MAX_WIDTH = 128


def _step(
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
    if runs_triton(q):
        from . import triton as kernels

        if _supported(q) and _packed(keys) and _packed(values):
            q, k, v = (x if _packed(x) else x.contiguous() for x in (q, k, v))
            cos, sin = (None if x is None else x.contiguous() for x in (cos, sin))
            bias = bias if bias is None or bias.stride(-1) == 1 else bias.contiguous()
            slots = slots if slots is None else slots.contiguous()
            lengths, seen = lengths.contiguous(), seen.contiguous()
            return kernels.step_attention(q, k, v, slots, lengths, keys, values, seen, cos, sin, bias, chunk, sinks, scale, sigmoid)
    return reference.step_attention(q, k, v, slots, lengths, keys, values, seen, cos, sin, bias, chunk, sinks, scale, sigmoid)


def _supported(q: Tensor) -> bool:
    """Whether the kernel takes heads like those of ``q``."""
    return q.shape[-1] % 2 == 0 and q.shape[-1] <= MAX_WIDTH


def _by_torch(q: Tensor) -> bool:
    """Whether PyTorch's own attention is the better, where it can compute at all."""
    return not (runs_triton(q) and _supported(q) and prefers_triton("step_attention", streams(len(q))))


def _packed(x: Tensor) -> bool:
    """Whether the heads of one frame lie side by side."""
    return x.stride()[2:] == (x.shape[3], 1)


step = operator(
    "step_attention(Tensor q, Tensor k, Tensor v, Tensor? slots, Tensor lengths, Tensor(a!) keys, Tensor(b!) values, Tensor seen,"
    " Tensor? cos, Tensor? sin, Tensor? bias, int chunk, int sinks, float scale, float? sigmoid) -> Tensor",
    _step,
    lambda q, *_: torch.empty_like(q, memory_format=torch.contiguous_format),
)


def step_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    slots: Tensor | None,
    lengths: Tensor,
    keys: Tensor,
    values: Tensor,
    seen: Tensor,
    chunk: int,
    *,
    sinks: int = 0,
    rotation: tuple[Tensor, Tensor] | None = None,
    bias: Tensor | None = None,
    sigmoid: float | None = None,
    scale: float | None = None,
) -> Tensor:
    """One step of chunked attention for many live streams, whose past lies in ring buffers that are brought up to date.

    A frame sees its own chunk of ``chunk`` frames and the ``left`` frames before that chunk. A step may bring several chunks;
    only a stream's last one may be partial. Nothing is read back to the host and no shape depends on the data, so steps can be
    recorded in a CUDA graph. No gradient from the kernel.

    Args:
        q: (S, C, H, D) queries of S rows, one row a stream.
        k: (S, C, Hk, D) keys, not rotated; Hk divides H, and query head h belongs to key head h // (H / Hk).
        v: (S, C, Hk, D) values.
        slots: (S,) cache slot of each row; no two rows with frames share one. None: row s has slot s.
        lengths: (S,) frames of each row, at most C; a row of length 0 leaves its slot as it is, bit for bit.
        keys: (slots, sinks + left, Hk, D) cache, changed in place. Its content means nothing for a stream that has not begun.
        values: likewise.
        seen: (slots,) int64, frames that each stream has heard before this step. It is only read: all layers of a model share it,
            and its owner adds the lengths after the last.
        chunk: frames of a chunk.
        sinks: first frames of a stream that stay visible for ever (Xiao et al., "Efficient Streaming Language Models with
            Attention Sinks", 2024); outside the window they count as standing right before it.
        rotation: cos and sin (R, D / 2) of rotary positions, row p for position p and first half paired with second; R is at least
            left + C, and left + sinks + chunk with sinks. Float32, or float64 for float64 queries.
        bias: (S or 1, H, C or 1, W), added to the scores: column d + chunk − 1 for a key d frames before its query,
            d = 1 − chunk … left + sinks + chunk − 1. A learned table or ALiBi has one row for all queries; Transformer-XL's position
            term has one for each.
        sigmoid: weights are sigmoid(score + this) instead of a softmax (Ramapuram et al., 2024).
        scale: of the scores; D^−0.5 by default.

    Returns:
        (S, C, H, D); 0 beyond a row's length.

    Raises:
        ValueError: shapes or dtypes that do not belong together.
    """
    left, width = keys.shape[1] - sinks, q.shape[-1]
    if k.shape != v.shape or k.shape[:2] != q.shape[:2] or k.shape[3] != width or q.shape[2] % max(k.shape[2], 1):
        raise ValueError(f"q {tuple(q.shape)}, k {tuple(k.shape)} and v {tuple(v.shape)} should be (S, C, H, D) and twice (S, C, Hk, D)")
    if keys.shape != values.shape or keys.shape[2:] != k.shape[2:] or left < 0:
        raise ValueError(f"caches {tuple(keys.shape)} and {tuple(values.shape)} should be (slots, {sinks} + left, {k.shape[2]}, {width})")
    if len({x.dtype for x in (q, k, v, keys, values)}) > 1:
        raise ValueError(f"q, k, v and the caches should have one dtype, not {q.dtype}, {k.dtype}, {v.dtype}, {keys.dtype}, {values.dtype}")
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1 frame, not {chunk}")
    rows = max(left + q.shape[1], left + sinks + chunk if sinks else 0)
    if rotation is not None and (rotation[0].shape[0] < rows or any(x.shape[1] * 2 != width for x in rotation)):
        raise ValueError(f"rotation tables {tuple(rotation[0].shape)} should be at least ({rows}, {width // 2})")
    columns = left + sinks + 2 * chunk - 1
    if bias is not None and (bias.dim() != 4 or bias.shape[1] != q.shape[2] or bias.shape[3] != columns):
        raise ValueError(f"bias {tuple(bias.shape)} should be (S or 1, {q.shape[2]}, C or 1, {columns})")
    cos, sin = rotation or (None, None)
    scale = width**-0.5 if scale is None else scale
    if not sinks and sigmoid is None and _by_torch(q):
        return stack.step_attention(q, k, v, slots, lengths, keys, values, seen, cos, sin, bias, chunk, scale)
    return step(q, k, v, slots, lengths, keys, values, seen, cos, sin, bias, chunk, sinks, scale, sigmoid)
