"""Limited-context attention kernels: a program owns a block of queries, or, for their gradients, of keys and values.

Every result is written by one program, in one order: gradients are the same in every run. A bias is a band: one column a
distance, read askew, so that neither it nor its gradient ever has the size of frames squared.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..tiles import load_rows, product, store_rows

LOG2E = tl.constexpr(1.4426950408889634)


@triton.jit
def biased(
    score, i, j, sees, bias_ptr, bias_at, slope,
    HAS_BIAS: tl.constexpr, HAS_SLOPES: tl.constexpr, SCALE: tl.constexpr, SIGMOID: tl.constexpr,
):  # fmt: skip
    """Finish a tile of scores of queries i and keys j, in units of log 2."""
    score *= SCALE * LOG2E
    if HAS_BIAS:
        score += tl.load(bias_ptr + bias_at + (i - j), mask=sees, other=0.0).to(score.dtype) * LOG2E
    if HAS_SLOPES:
        score -= slope * LOG2E * tl.abs(i - j).to(score.dtype)
    if SIGMOID is not None:
        score += SIGMOID * LOG2E
    return tl.where(sees, score, float("-inf"))


@triton.jit
def load_norm(at, real):
    """Log-denominators in units of log 2; 0 where a bias of −inf hid every key."""
    norm = tl.load(at, mask=real, other=0.0)
    return tl.where(norm == float("-inf"), 0.0, norm * LOG2E)


@triton.jit
def forward_kernel(
    q_ptr, k_ptr, v_ptr, lengths_ptr, bias_ptr, slopes_ptr, out_ptr, norm_ptr,
    q_row, q_frame, k_row, k_frame, v_row, v_frame, bias_row, bias_head, bias_frame, T, chunk, left,
    GROUP: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_SLOPES: tl.constexpr, SCALE: tl.constexpr, SIGMOID: tl.constexpr,
    WIDTH: tl.constexpr, PADDED: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Output and log-denominator of a block of queries of one head."""
    first_query = tl.program_id(0) * BLOCK_M
    head = tl.program_id(1)
    b = tl.program_id(2).to(tl.int64)
    length = tl.load(lengths_ptr + b).to(tl.int32)
    i = first_query + tl.arange(0, BLOCK_M)
    start = i // chunk * chunk
    dtype = norm_ptr.dtype.element_ty
    q = load_rows(q_ptr + b * q_row + head * WIDTH, i.to(tl.int64) * q_frame, i < length, WIDTH, PADDED)
    k_ptr += b * k_row + head // GROUP * WIDTH
    v_ptr += b * v_row + head // GROUP * WIDTH
    bias_at = (b * bias_row + head * bias_head + i.to(tl.int64) * bias_frame + chunk - 1)[:, None]
    slope = tl.load(slopes_ptr + head).to(dtype) if HAS_SLOPES else 0.0
    acc = tl.zeros([BLOCK_M, PADDED], dtype)
    total = tl.zeros([BLOCK_M], dtype)
    top = tl.full([BLOCK_M], float("-inf"), dtype)
    last = tl.minimum((first_query + BLOCK_M - 1) // chunk * chunk + chunk, length)
    for first_key in range(tl.maximum(first_query // chunk * chunk - left, 0), tl.where(first_query < length, last, 0), BLOCK_N):
        j = first_key + tl.arange(0, BLOCK_N)
        k = load_rows(k_ptr, j.to(tl.int64) * k_frame, j < length, WIDTH, PADDED)
        v = load_rows(v_ptr, j.to(tl.int64) * v_frame, j < length, WIDTH, PADDED)
        sees = (j[None] >= (start - left)[:, None]) & (j[None] < tl.minimum(start + chunk, length)[:, None]) & (i < length)[:, None]
        score = biased(product(q, tl.trans(k)), i[:, None], j[None], sees, bias_ptr, bias_at, slope, HAS_BIAS, HAS_SLOPES, SCALE, SIGMOID)
        if SIGMOID is not None:
            weight = 1.0 / (1.0 + tl.exp2(-score))
        else:
            higher = tl.maximum(top, tl.max(score, 1))
            base = tl.where(higher == float("-inf"), 0.0, higher)
            weight = tl.exp2(score - base[:, None])
            decay = tl.exp2(top - base)
            total = total * decay + tl.sum(weight, 1)
            acc *= decay[:, None]
            top = higher
        acc += product(weight.to(v.dtype), v)
    if SIGMOID is not None:
        norm = total
    else:
        some = total > 0
        acc /= tl.where(some, total, 1.0)[:, None]
        norm = tl.where(some, (top + tl.log2(tl.where(some, total, 1.0))) / LOG2E, float("-inf"))
    heads = tl.num_programs(1)
    store_rows(out_ptr, ((b * T + i) * heads + head) * WIDTH, acc, i < T, WIDTH, PADDED)
    tl.store(norm_ptr + (b * heads + head) * T + i, norm, mask=i < T)


@triton.jit
def queries_backward_kernel(
    grad_ptr, q_ptr, k_ptr, v_ptr, lengths_ptr, bias_ptr, slopes_ptr, out_ptr, norm_ptr, dq_ptr, band_ptr, delta_ptr,
    grad_row, grad_frame, q_row, q_frame, k_row, k_frame, v_row, v_frame, bias_row, bias_head, bias_frame, T, W, chunk, left,
    GROUP: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_SLOPES: tl.constexpr, SCALE: tl.constexpr, SIGMOID: tl.constexpr,
    WIDTH: tl.constexpr, PADDED: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Gradients of a block of queries and of their rows of the bias, and what the other kernel needs of their outputs."""
    first_query = tl.program_id(0) * BLOCK_M
    head = tl.program_id(1)
    heads = tl.num_programs(1)
    b = tl.program_id(2).to(tl.int64)
    length = tl.load(lengths_ptr + b).to(tl.int32)
    i = first_query + tl.arange(0, BLOCK_M)
    start = i // chunk * chunk
    dtype = norm_ptr.dtype.element_ty
    real = i < length
    rows = ((b * T + i) * heads + head) * WIDTH
    q = load_rows(q_ptr + b * q_row + head * WIDTH, i.to(tl.int64) * q_frame, real, WIDTH, PADDED)
    grad = load_rows(grad_ptr + b * grad_row + head * WIDTH, i.to(tl.int64) * grad_frame, real, WIDTH, PADDED)
    k_ptr += b * k_row + head // GROUP * WIDTH
    v_ptr += b * v_row + head // GROUP * WIDTH
    at = (b * heads + head) * T + i
    if SIGMOID is None:
        norm = load_norm(norm_ptr + at, real)
        out = load_rows(out_ptr, rows, real, WIDTH, PADDED)
        delta = tl.sum(grad.to(dtype) * out.to(dtype), 1)
        tl.store(delta_ptr + at, delta, mask=i < T)
    bias_at = (b * bias_row + head * bias_head + i.to(tl.int64) * bias_frame + chunk - 1)[:, None]
    band_at = (at * W + chunk - 1)[:, None]
    slope = tl.load(slopes_ptr + head).to(dtype) if HAS_SLOPES else 0.0
    acc = tl.zeros([BLOCK_M, PADDED], dtype)
    last = tl.minimum((first_query + BLOCK_M - 1) // chunk * chunk + chunk, length)
    for first_key in range(tl.maximum(first_query // chunk * chunk - left, 0), tl.where(first_query < length, last, 0), BLOCK_N):
        j = first_key + tl.arange(0, BLOCK_N)
        k = load_rows(k_ptr, j.to(tl.int64) * k_frame, j < length, WIDTH, PADDED)
        v = load_rows(v_ptr, j.to(tl.int64) * v_frame, j < length, WIDTH, PADDED)
        sees = (j[None] >= (start - left)[:, None]) & (j[None] < tl.minimum(start + chunk, length)[:, None]) & real[:, None]
        score = biased(product(q, tl.trans(k)), i[:, None], j[None], sees, bias_ptr, bias_at, slope, HAS_BIAS, HAS_SLOPES, SCALE, SIGMOID)
        dweight = product(grad, tl.trans(v))
        if SIGMOID is not None:
            weight = 1.0 / (1.0 + tl.exp2(-score))
            dscore = weight * (1.0 - weight) * dweight
        else:
            dscore = tl.exp2(score - norm[:, None]) * (dweight - delta[:, None])
        if HAS_BIAS:
            tl.store(band_ptr + band_at + (i[:, None] - j[None]), dscore.to(band_ptr.dtype.element_ty), mask=sees)
        acc += product(dscore.to(k.dtype), k)
    store_rows(dq_ptr, rows, acc * SCALE, i < T, WIDTH, PADDED)


@triton.jit
def keys_backward_kernel(
    grad_ptr, q_ptr, k_ptr, v_ptr, lengths_ptr, bias_ptr, slopes_ptr, norm_ptr, delta_ptr, dk_ptr, dv_ptr,
    grad_row, grad_frame, q_row, q_frame, k_row, k_frame, v_row, v_frame, bias_row, bias_head, bias_frame, T, chunk, left,
    GROUP: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_SLOPES: tl.constexpr, SCALE: tl.constexpr, SIGMOID: tl.constexpr,
    WIDTH: tl.constexpr, PADDED: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Gradients of a block of keys and values of one key head, from the queries of its GROUP heads; tiles are (keys, queries)."""
    first_key = tl.program_id(0) * BLOCK_N
    key_head = tl.program_id(1)
    key_heads = tl.num_programs(1)
    b = tl.program_id(2).to(tl.int64)
    length = tl.load(lengths_ptr + b).to(tl.int32)
    j = first_key + tl.arange(0, BLOCK_N)
    dtype = norm_ptr.dtype.element_ty
    k = load_rows(k_ptr + b * k_row + key_head * WIDTH, j.to(tl.int64) * k_frame, j < length, WIDTH, PADDED)
    v = load_rows(v_ptr + b * v_row + key_head * WIDTH, j.to(tl.int64) * v_frame, j < length, WIDTH, PADDED)
    dk = tl.zeros([BLOCK_N, PADDED], dtype)
    dv = tl.zeros([BLOCK_N, PADDED], dtype)
    last = tl.minimum((first_key + BLOCK_N - 1 + left) // chunk * chunk + chunk, length)
    for head in range(key_head * GROUP, key_head * GROUP + GROUP):
        slope = tl.load(slopes_ptr + head).to(dtype) if HAS_SLOPES else 0.0
        for first_query in range(first_key // chunk * chunk, tl.where(first_key < length, last, 0), BLOCK_M):
            i = first_query + tl.arange(0, BLOCK_M)
            start = i // chunk * chunk
            real = i < length
            q = load_rows(q_ptr + b * q_row + head * WIDTH, i.to(tl.int64) * q_frame, real, WIDTH, PADDED)
            grad = load_rows(grad_ptr + b * grad_row + head * WIDTH, i.to(tl.int64) * grad_frame, real, WIDTH, PADDED)
            bias_at = (b * bias_row + head * bias_head + i.to(tl.int64) * bias_frame + chunk - 1)[None]
            sees = (j[:, None] >= (start - left)[None]) & (j[:, None] < tl.minimum(start + chunk, length)[None]) & real[None]
            score = product(k, tl.trans(q))
            score = biased(score, i[None], j[:, None], sees, bias_ptr, bias_at, slope, HAS_BIAS, HAS_SLOPES, SCALE, SIGMOID)
            dweight = product(v, tl.trans(grad))
            if SIGMOID is not None:
                weight = 1.0 / (1.0 + tl.exp2(-score))
                dscore = weight * (1.0 - weight) * dweight
            else:
                at = (b * key_heads * GROUP + head) * T + i
                weight = tl.exp2(score - load_norm(norm_ptr + at, real)[None])
                dscore = weight * (dweight - tl.load(delta_ptr + at, mask=real, other=0.0)[None])
            dv += product(weight.to(grad.dtype), grad)
            dk += product(dscore.to(q.dtype), q)
    rows = ((b * T + j) * key_heads + key_head) * WIDTH
    store_rows(dk_ptr, rows, dk * SCALE, j < T, WIDTH, PADDED)
    store_rows(dv_ptr, rows, dv, j < T, WIDTH, PADDED)


#: Owned rows, rows of a step, warps and pipeline stages, forward and backward, by bytes of an element and padded width. No
#: eight warps for 64 rows of float32: with them (heads of 128, H100, Triton 3.6) sums came out wrong. The compiler then gives the three
#: tf32 products that one is made of different layouts, one of them wrapped around the rows. These here stay with the older instructions.
BLOCKS = {
    (2, 16): ((64, 64, 4, 3), (64, 64, 4, 2)),
    (2, 32): ((64, 64, 4, 3), (64, 64, 4, 2)),
    (2, 64): ((64, 32, 4, 3), (64, 64, 4, 2)),
    (2, 128): ((64, 64, 4, 2), (64, 64, 8, 2)),
    (4, 16): ((64, 32, 4, 2), (32, 32, 4, 1)),
    (4, 32): ((64, 32, 4, 2), (32, 32, 4, 1)),
    (4, 64): ((64, 32, 4, 2), (32, 32, 8, 1)),
    (4, 128): ((16, 16, 4, 1), (16, 16, 4, 1)),
    (8, 16): ((16, 16, 4, 1), (16, 16, 4, 1)),
    (8, 32): ((16, 16, 4, 1), (16, 16, 4, 1)),
    (8, 64): ((16, 16, 4, 1), (16, 16, 4, 1)),
    (8, 128): ((16, 16, 8, 1), (16, 16, 8, 1)),
}


def launch(itemsize: int, width: int, direction: int, owns_keys: bool = False) -> dict[str, int]:
    """Block sizes for heads of ``width`` elements; direction 0 is forward, 1 backward."""
    padded = max(triton.next_power_of_2(width), 16)
    own, other, warps, stages = BLOCKS[itemsize, padded][direction]
    block_m, block_n = (other, own) if owns_keys else (own, other)
    return {"WIDTH": width, "PADDED": padded, "BLOCK_M": block_m, "BLOCK_N": block_n, "num_warps": warps, "num_stages": stages}


def _flags(q: Tensor, k: Tensor, bias: Tensor | None, slopes: Tensor | None, scale: float, sigmoid: float | None) -> dict[str, Any]:
    group = q.shape[2] // k.shape[2]
    return {"GROUP": group, "HAS_BIAS": bias is not None, "HAS_SLOPES": slopes is not None, "SCALE": scale, "SIGMOID": sigmoid}


def _strides(bias: Tensor | None, *tensors: Tensor) -> list[int]:
    of_bias = [0, 0, 0] if bias is None else [0 if size == 1 else s for size, s in zip(bias.shape[:3], bias.stride()[:3], strict=True)]
    return [stride for x in tensors for stride in x.stride()[:2]] + of_bias


def forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor,
    bias: Tensor | None,
    slopes: Tensor | None,
    chunk: int,
    left: int,
    scale: float,
    sigmoid: float | None,
) -> tuple[Tensor, Tensor]:
    """See ``reference.forward``; heads lie side by side in q, k and v."""
    batch, frames, heads, width = q.shape
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    norm = torch.empty((batch, heads, frames), dtype=torch.promote_types(q.dtype, torch.float32), device=q.device)
    if out.numel():
        tile = launch(q.element_size(), width, 0)
        forward_kernel[triton.cdiv(frames, tile["BLOCK_M"]), heads, batch](
            q, k, v, lengths, bias, slopes, out, norm, *_strides(bias, q, k, v), frames, chunk, left,
            **_flags(q, k, bias, slopes, scale, sigmoid), **tile,
        )  # fmt: skip
    return out, norm


def backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Tensor,
    bias: Tensor | None,
    slopes: Tensor | None,
    out: Tensor,
    norm: Tensor,
    chunk: int,
    left: int,
    scale: float,
    sigmoid: float | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See ``reference.backward``; heads lie side by side in grad, q, k and v. No atomics: repeats are equal bit for bit."""
    batch, frames, heads, width = q.shape
    dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
    delta = torch.empty_like(norm)
    shared = bias is not None and (len(bias), bias.shape[2]) != (batch, frames)
    size = (batch, heads, frames, bias.shape[3]) if bias is not None else (0,)
    band = torch.zeros(size, dtype=q.dtype if bias is None else norm.dtype if shared else bias.dtype, device=q.device)
    if dq.numel():
        flags = _flags(q, k, bias, slopes, scale, sigmoid)
        strides = _strides(bias, grad, q, k, v)
        tile = launch(q.element_size(), width, 1)
        queries_backward_kernel[triton.cdiv(frames, tile["BLOCK_M"]), heads, batch](
            grad, q, k, v, lengths, bias, slopes, out, norm, dq, band, delta, *strides, frames, size[-1], chunk, left, **flags, **tile
        )
        tile = launch(q.element_size(), width, 1, owns_keys=True)
        keys_backward_kernel[triton.cdiv(frames, tile["BLOCK_N"]), k.shape[2], batch](
            grad, q, k, v, lengths, bias, slopes, norm, delta, dk, dv, *strides, frames, chunk, left, **flags, **tile
        )
    return dq, dk, dv, band if bias is None else band.sum_to_size(bias.shape).to(bias.dtype)
