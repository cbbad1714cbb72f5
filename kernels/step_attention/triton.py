"""Step attention kernel: one program owns one key head of one stream, so that it may read the ring and then overwrite it.

Keys lie unrotated in the ring. A block of them is rotated by places in the block, and the queries by their distance to the
block's first key: positions stay small, and exact for as long as a stream lives, and the table of the block stays at hand.
A head is handled as two halves, which is how rotary positions pair its elements.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..tiles import load_rows, store_rows

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def load_halves(x_ptr, rows, valid, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Both halves of rows of ``x``."""
    d = tl.arange(0, PADDED // 2)
    inside = valid[:, None] & (d < WIDTH // 2)[None]
    at = x_ptr + rows[:, None] + d[None]
    return tl.load(at, mask=inside, other=0.0), tl.load(at + WIDTH // 2, mask=inside, other=0.0)


@triton.jit
def turn(a, b, cos, sin):
    """Rotate pairs, in the precision of the table."""
    return (a * cos - b * sin).to(a.dtype), (b * cos + a * sin).to(a.dtype)


@triton.jit
def fold(
    acc, total, top, q_a, q_b, away, sees, keys_ptr, key_rows, values_ptr, value_rows, valid,
    cos_ptr, sin_ptr, turns, cos, sin, bias_ptr, bias_at,
    ROTATES: tl.constexpr, HAS_BIAS: tl.constexpr, SCALE: tl.constexpr, SIGMOID: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr,
    BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Fold a block of keys, the first of them ``away`` frames before a query, into the running sums. Scores are in units of log 2."""
    k_a, k_b = load_halves(keys_ptr, key_rows, valid, WIDTH, PADDED)
    v = load_rows(values_ptr, value_rows, valid, WIDTH, PADDED)
    if ROTATES:
        k_a, k_b = turn(k_a, k_b, cos, sin)
        places = tl.minimum(tl.abs(away), turns - 1) * (WIDTH // 2)
        far_cos = load_rows(cos_ptr, places, places >= 0, WIDTH // 2, PADDED // 2)
        far_sin = load_rows(sin_ptr, places, places >= 0, WIDTH // 2, PADDED // 2)
        q_a, q_b = turn(q_a, q_b, far_cos, tl.where((away < 0)[:, None], -far_sin, far_sin))
    score = tl.dot(q_a, tl.trans(k_a), input_precision="tf32x3")
    score += tl.dot(q_b, tl.trans(k_b), input_precision="tf32x3")
    score *= SCALE * LOG2E
    if HAS_BIAS:
        at = (bias_at + away)[:, None] - tl.arange(0, BLOCK_N)[None]
        score += tl.load(bias_ptr + at, mask=sees, other=0.0).to(score.dtype) * LOG2E
    if SIGMOID is not None:
        weight = tl.where(sees, 1.0 / (1.0 + tl.exp2(-score - SIGMOID * LOG2E)), 0.0)
    else:
        score = tl.where(sees, score, float("-inf"))
        higher = tl.maximum(top, tl.max(score, 1))
        base = tl.where(higher == float("-inf"), 0.0, higher)
        weight = tl.exp2(score - base[:, None])
        decay = tl.exp2(top - base)
        total = total * decay + tl.sum(weight, 1)
        acc *= decay[:, None]
        top = higher
    return acc + tl.dot(weight.to(v.dtype), v, input_precision="tf32x3"), total, top


@triton.jit
def step_kernel(
    q_ptr, k_ptr, v_ptr, slots_ptr, lengths_ptr, keys_ptr, values_ptr, seen_ptr, cos_ptr, sin_ptr, bias_ptr, out_ptr,
    q_row, q_frame, k_row, k_frame, v_row, v_frame, keys_slot, keys_frame, values_slot, values_frame, bias_row, bias_head, bias_frame,
    C, left, chunk, sinks, turns,
    GROUP: tl.constexpr, ROTATES: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_SINKS: tl.constexpr,
    SCALE: tl.constexpr, SIGMOID: tl.constexpr,
    WIDTH: tl.constexpr, PADDED: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Attend from the queries of GROUP heads that share a key head, then append; a tile's row m is frame m // GROUP."""
    head = tl.program_id(0)
    row = tl.program_id(1).to(tl.int64)
    slot = row if slots_ptr is None else tl.load(slots_ptr + row).to(tl.int64)
    length = tl.load(lengths_ptr + row).to(tl.int32)
    heard = tl.load(seen_ptr + slot)
    ring = tl.maximum(left, 1)
    next_row = (heard % ring).to(tl.int32)
    filled = tl.where(length > 0, tl.minimum(heard, left), 0).to(tl.int32)
    k_ptr += row * k_row + head * WIDTH
    v_ptr += row * v_row + head * WIDTH
    keys_ptr += slot * keys_slot + head * WIDTH
    values_ptr += slot * values_slot + head * WIDTH
    n = tl.arange(0, BLOCK_N)
    dtype = tl.float64 if q_ptr.dtype.element_ty == tl.float64 else tl.float32

    if HAS_SINKS:
        early = tl.minimum(tl.maximum(sinks - heard, 0), length).to(tl.int32)
        for first in range(0, early, BLOCK_N):
            i = first + n
            to = heard.to(tl.int32) + i
            store_rows(keys_ptr, to * keys_frame, load_rows(k_ptr, i * k_frame, i < early, WIDTH, PADDED), i < early, WIDTH, PADDED)
            store_rows(values_ptr, to * values_frame, load_rows(v_ptr, i * v_frame, i < early, WIDTH, PADDED), i < early, WIDTH, PADDED)
        tl.debug_barrier()  # the program's other threads read them below

    cos, sin = 0.0, 0.0
    if ROTATES:
        cos = load_rows(cos_ptr, n * (WIDTH // 2), n < turns, WIDTH // 2, PADDED // 2)
        sin = load_rows(sin_ptr, n * (WIDTH // 2), n < turns, WIDTH // 2, PADDED // 2)

    for first_query in range(0, C * GROUP, BLOCK_M):
        m = first_query + tl.arange(0, BLOCK_M)
        here = m // GROUP
        q_head = head * GROUP + m % GROUP
        asks = here < length
        start = here // chunk * chunk
        q_a, q_b = load_halves(q_ptr, row * q_row + here * q_frame + q_head * WIDTH, asks, WIDTH, PADDED)
        bias_at = row * bias_row + q_head * bias_head + here * bias_frame + chunk - 1
        acc = tl.zeros([BLOCK_M, PADDED], dtype)
        total = tl.zeros([BLOCK_M], dtype)
        top = tl.full([BLOCK_M], float("-inf"), dtype)
        if HAS_SINKS:
            before = heard + start - left  # frames of the stream before a query's window
            for first in range(0, tl.where(length > 0, sinks, 0), BLOCK_N):
                j = first + n
                acc, total, top = fold(
                    acc, total, top, q_a, q_b, (heard + here - tl.maximum(before - sinks, 0)).to(tl.int32) - first,
                    asks[:, None] & (j[None] < tl.minimum(before, sinks)[:, None]),
                    keys_ptr, j * keys_frame, values_ptr, j * values_frame, j < tl.minimum(heard + length, sinks),
                    cos_ptr, sin_ptr, turns, cos, sin, bias_ptr, bias_at, ROTATES, HAS_BIAS, SCALE, SIGMOID, WIDTH, PADDED, BLOCK_N,
                )  # fmt: skip
        for first in range(-filled, 0, BLOCK_N):
            past = first + n
            at = next_row + left + past
            at = sinks + tl.where(at >= left, at - left, at)
            acc, total, top = fold(
                acc, total, top, q_a, q_b, here - first, asks[:, None] & (past[None] >= (start - left)[:, None]) & (past < 0)[None],
                keys_ptr, at * keys_frame, values_ptr, at * values_frame, past < 0,
                cos_ptr, sin_ptr, turns, cos, sin, bias_ptr, bias_at, ROTATES, HAS_BIAS, SCALE, SIGMOID, WIDTH, PADDED, BLOCK_N,
            )  # fmt: skip
        for first in range(0, length, BLOCK_N):
            i = first + n
            sees = (i[None] >= (start - left)[:, None]) & (i[None] < tl.minimum(start + chunk, length)[:, None])
            acc, total, top = fold(
                acc, total, top, q_a, q_b, here - first, asks[:, None] & sees, k_ptr, i * k_frame, v_ptr, i * v_frame, i < length,
                cos_ptr, sin_ptr, turns, cos, sin, bias_ptr, bias_at, ROTATES, HAS_BIAS, SCALE, SIGMOID, WIDTH, PADDED, BLOCK_N,
            )  # fmt: skip
        if SIGMOID is None:
            acc /= tl.where(total > 0, total, 1.0)[:, None]
        to = ((row * C + here) * tl.num_programs(0) * GROUP + q_head) * WIDTH
        store_rows(out_ptr, to, acc.to(out_ptr.dtype.element_ty), here < C, WIDTH, PADDED)

    tl.debug_barrier()  # all threads have read the frames that are overwritten now
    for first in range(tl.maximum(length - left, 0), length, BLOCK_N):
        i = first + n
        to = sinks + (next_row + i) % ring
        new = (i < length) & (left > 0)
        store_rows(keys_ptr, to * keys_frame, load_rows(k_ptr, i * k_frame, new, WIDTH, PADDED), new, WIDTH, PADDED)
        store_rows(values_ptr, to * values_frame, load_rows(v_ptr, i * v_frame, new, WIDTH, PADDED), new, WIDTH, PADDED)


#: Queries in a tile at most, keys in a block, warps and pipeline stages, by bytes of an element and padded width of a head.
#: A step is bound by memory: what matters is that several programs fit on a multiprocessor with their loads in flight.
BLOCKS = {
    (2, 32): (32, 64, 4, 3),
    (2, 64): (32, 32, 4, 3),
    (2, 128): (32, 32, 8, 2),
    (4, 32): (16, 32, 4, 2),
    (4, 64): (16, 32, 8, 2),
    (4, 128): (16, 16, 8, 2),
    (8, 32): (16, 16, 4, 1),
    (8, 64): (16, 16, 4, 1),
    (8, 128): (16, 16, 8, 1),
}


def launch(itemsize: int, width: int, queries: int) -> dict[str, int]:
    """Block sizes for heads of ``width`` elements, and ``queries`` queries that share a key head."""
    padded = max(triton.next_power_of_2(width), 32)  # a tensor core takes halves of 16
    most, block_n, warps, stages = BLOCKS[itemsize, padded]
    block_m = min(max(triton.next_power_of_2(queries), 16), most)
    return {"WIDTH": width, "PADDED": padded, "BLOCK_M": block_m, "BLOCK_N": block_n, "num_warps": warps, "num_stages": stages}


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
    """See ``reference.step_attention``; heads lie side by side in all tensors and caches."""
    rows, frames, heads, width = q.shape
    key_heads = k.shape[2]
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    if not out.numel():
        return out
    strides = [stride for x in (q, k, v, keys, values) for stride in x.stride()[:2]]
    bias_strides = [0, 0, 0] if bias is None else [0 if size == 1 else s for size, s in zip(bias.shape[:3], bias.stride(), strict=False)]
    flags: dict[str, Any] = {
        "GROUP": heads // key_heads, "ROTATES": cos is not None, "HAS_BIAS": bias is not None, "HAS_SINKS": sinks > 0,
        "SCALE": scale, "SIGMOID": sigmoid,
    }  # fmt: skip
    step_kernel[key_heads, rows](
        q, k, v, slots, lengths, keys, values, seen, cos, sin, bias, out, *strides, *bias_strides,
        frames, keys.shape[1] - sinks, chunk, sinks, 0 if cos is None else len(cos),
        **flags, **launch(q.element_size(), width, frames * heads // key_heads),
    )  # fmt: skip
    return out
