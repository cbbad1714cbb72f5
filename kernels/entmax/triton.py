"""Entmax attention kernels: the scores of all keys that a block of queries sees lie on the chip, for Newton's method to go over them.

Once thresholds are known, a tile at a time is enough. Every result is written by one program: repeats are equal bit for bit.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..tiles import load_rows, product, store_rows
from .reference import wide


@triton.jit
def first_seen(first_query, filled, chunk, left):
    """First key, counted from the first query, that a block of queries sees."""
    return tl.maximum(first_query // chunk * chunk - left, -filled)


@triton.jit
def context(i, length, filled, chunk, left):
    """Keys that queries i see: from the first result on, before the second."""
    start = i // chunk * chunk
    low = tl.maximum(start - left, -filled)
    return low, tl.where(i < length, tl.minimum(start + chunk, length), low)


@triton.jit
def raise_positive(x, exponent):
    """x^exponent where x > 0, else 0."""
    return tl.where(x > 0, tl.exp2(exponent * tl.log2(tl.where(x > 0, x, 1.0))), 0.0)


@triton.jit
def root_weights(x, power):
    """x^(power − 1) where x > 0, for power = 1/(α−1); weights are that times x. At α = 1.5 it is x itself, and costs nothing."""
    return x if power == 2.0 else raise_positive(x, power - 1.0)


@triton.jit
def norm_and_slope(x, power):
    """Row sums of x^power and x^(power − 1). The choice is made around the sums: around the powers it would cost registers."""
    if power == 2.0:
        total, slope = tl.sum(x * x, 1), tl.sum(x, 1)
    else:
        root = raise_positive(x, power - 1.0)
        total, slope = tl.sum(root * x, 1), tl.sum(root, 1)
    return total, slope


@triton.jit
def forward_kernel(
    q_ptr, k_ptr, v_ptr, alpha_ptr, lengths_ptr, filled_ptr, out_ptr, tau_ptr,
    q_row, q_frame, k_row, k_frame, v_row, v_frame, T, past, chunk, left,
    GROUP: tl.constexpr, SCALE: tl.constexpr, STEPS: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr, SLICE: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    """Threshold and output of a block of queries of one head.

    All scores are there at once for the threshold, from products over SLICE elements of the head at a time; then the keys are gone
    through once more, since the weights of all of them would fill the registers of every warp that multiplies by them.
    """
    first_query = tl.program_id(0) * BLOCK_M
    head = tl.program_id(1)
    heads = tl.num_programs(1)
    b = tl.program_id(2).to(tl.int64)
    length = tl.load(lengths_ptr + b).to(tl.int32)
    filled = past if filled_ptr is None else tl.load(filled_ptr + b).to(tl.int32)
    dtype = tau_ptr.dtype.element_ty
    alpha = tl.load(alpha_ptr + head).to(dtype)
    power = 1.0 / (alpha - 1.0)
    i = first_query + tl.arange(0, BLOCK_M)
    first_key = first_seen(first_query, filled, chunk, left)
    all_keys = first_key + tl.arange(0, KEYS)
    last_key = tl.minimum((first_query + BLOCK_M - 1) // chunk * chunk + chunk, length)
    q_at = q_ptr + b * q_row + head * WIDTH
    k_at = k_ptr + b * k_row + head // GROUP * WIDTH
    v_at = v_ptr + b * v_row + head // GROUP * WIDTH
    z = tl.zeros([BLOCK_M, KEYS], dtype)
    for first in tl.static_range(0, PADDED, SLICE):
        q_part = load_rows(q_at + first, i.to(tl.int64) * q_frame, i < length, WIDTH - first, SLICE)
        k_part = load_rows(k_at + first, (all_keys + past).to(tl.int64) * k_frame, all_keys < last_key, WIDTH - first, SLICE)
        z += product(q_part, tl.trans(k_part))
    low, high = context(i, length, filled, chunk, left)
    visible = (all_keys[None] >= low[:, None]) & (all_keys[None] < high[:, None])
    z = tl.where(visible, z * (SCALE * (alpha - 1.0)), float("-inf"))
    top = tl.max(z, 1)
    some = top > float("-inf")
    z -= tl.where(some, top, 0.0)[:, None]
    tau = tl.full([BLOCK_M], -1.0, dtype)
    for _ in range(STEPS):
        total, slope = norm_and_slope(tl.maximum(z - tau[:, None], 0.0), power)
        total, slope = tl.where(some, total, 1.0), tl.where(some, slope, 1.0)
        tau += (total - tl.exp2((2.0 - alpha) * tl.log2(total))) / slope
    tau = tl.where(some, tau + top, float("inf"))
    tl.store(tau_ptr + (b * heads + head) * T + i, tau, mask=i < T)
    q = load_rows(q_at, i.to(tl.int64) * q_frame, i < length, WIDTH, PADDED)
    acc = tl.zeros([BLOCK_M, PADDED], dtype)
    for first in range(first_key, tl.where(first_query < length, last_key, first_key), BLOCK_N):
        j = first + tl.arange(0, BLOCK_N)
        rows = (j + past).to(tl.int64)
        k = load_rows(k_at, rows * k_frame, j < last_key, WIDTH, PADDED)
        v = load_rows(v_at, rows * v_frame, j < last_key, WIDTH, PADDED)
        seen = (j[None] >= low[:, None]) & (j[None] < high[:, None])
        x = tl.maximum(tl.where(seen, product(q, tl.trans(k)) * (SCALE * (alpha - 1.0)), float("-inf")) - tau[:, None], 0.0)
        acc += product((root_weights(x, power) * x).to(v.dtype), v)
    store_rows(out_ptr, ((b * T + i) * heads + head) * WIDTH, acc, i < T, WIDTH, PADDED)


@triton.jit
def queries_backward_kernel(
    grad_ptr, q_ptr, k_ptr, v_ptr, alpha_ptr, lengths_ptr, filled_ptr, out_ptr, tau_ptr, dq_ptr, centre_ptr, dalpha_ptr,
    grad_row, grad_frame, q_row, q_frame, k_row, k_frame, v_row, v_frame, T, past, chunk, left,
    GROUP: tl.constexpr, SCALE: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Gradients of a block of queries, and their shares of α's.

    With g_j the gradient of weight j and u = p^{2−α}, dq = Σ u (g − c) k for c = Σ u g / Σ u, which is known last: so Σ u g k and Σ u k are
    summed apart, once over the keys. All g are taken relative to Σ p g, which is known first and near to c: little cancels.
    """
    first_query = tl.program_id(0) * BLOCK_M
    head = tl.program_id(1)
    heads = tl.num_programs(1)
    b = tl.program_id(2).to(tl.int64)
    length = tl.load(lengths_ptr + b).to(tl.int32)
    filled = past if filled_ptr is None else tl.load(filled_ptr + b).to(tl.int32)
    dtype = tau_ptr.dtype.element_ty
    alpha = tl.load(alpha_ptr + head).to(dtype)
    power = 1.0 / (alpha - 1.0)
    i = first_query + tl.arange(0, BLOCK_M)
    real = i < length
    at = (b * heads + head) * T + i
    rows = ((b * T + i) * heads + head) * WIDTH
    tau = tl.load(tau_ptr + at, mask=real, other=float("inf"))
    q = load_rows(q_ptr + b * q_row + head * WIDTH, i.to(tl.int64) * q_frame, real, WIDTH, PADDED)
    grad = load_rows(grad_ptr + b * grad_row + head * WIDTH, i.to(tl.int64) * grad_frame, real, WIDTH, PADDED)
    near = tl.sum(grad.to(dtype) * load_rows(out_ptr, rows, real, WIDTH, PADDED).to(dtype), 1)
    k_at = k_ptr + b * k_row + head // GROUP * WIDTH
    v_at = v_ptr + b * v_row + head // GROUP * WIDTH
    first_key = first_seen(first_query, filled, chunk, left)
    last_key = tl.minimum((first_query + BLOCK_M - 1) // chunk * chunk + chunk, length)
    last_key = tl.where(first_query < length, last_key, first_key)
    low, high = context(i, length, filled, chunk, left)
    sum_u = tl.zeros([BLOCK_M], dtype)
    sum_ug = tl.zeros([BLOCK_M], dtype)
    sum_pg = tl.zeros([BLOCK_M], dtype)
    sum_h = tl.zeros([BLOCK_M], dtype)
    sum_hg = tl.zeros([BLOCK_M], dtype)
    of_u = tl.zeros([BLOCK_M, PADDED], dtype)
    of_ug = tl.zeros([BLOCK_M, PADDED], dtype)
    for first in range(first_key, last_key, BLOCK_N):
        j = first + tl.arange(0, BLOCK_N)
        keys = (j + past).to(tl.int64)
        k = load_rows(k_at, keys * k_frame, j < last_key, WIDTH, PADDED)
        v = load_rows(v_at, keys * v_frame, j < last_key, WIDTH, PADDED)
        seen = (j[None] >= low[:, None]) & (j[None] < high[:, None])
        x = tl.maximum(tl.where(seen, product(q, tl.trans(k)) * (SCALE * (alpha - 1.0)), float("-inf")) - tau[:, None], 0.0)
        g = product(grad, tl.trans(v)) - near[:, None]
        u = root_weights(x, power)
        ug = u * g
        h = u * x * tl.log2(tl.where(x > 0, x, 1.0))
        sum_u += tl.sum(u, 1)
        sum_ug += tl.sum(ug, 1)
        sum_pg += tl.sum(ug * x, 1)
        sum_h += tl.sum(h, 1)
        sum_hg += tl.sum(h * g, 1)
        of_u += product(u.to(k.dtype), k)
        of_ug += product(ug.to(k.dtype), k)
    centre = sum_ug / tl.where(sum_u > 0, sum_u, 1.0)
    tl.store(centre_ptr + at, centre + near, mask=i < T)
    entropy = -0.6931471805599453 * power * (sum_hg - centre * sum_h)
    tl.store(dalpha_ptr + at, ((sum_pg - centre) * power + entropy) * power, mask=i < T)
    store_rows(dq_ptr, rows, (of_ug - centre[:, None] * of_u) * SCALE, i < T, WIDTH, PADDED)


@triton.jit
def keys_backward_kernel(
    grad_ptr, q_ptr, k_ptr, v_ptr, alpha_ptr, lengths_ptr, filled_ptr, tau_ptr, centre_ptr, dk_ptr, dv_ptr,
    grad_row, grad_frame, q_row, q_frame, k_row, k_frame, v_row, v_frame, T, past, chunk, left,
    GROUP: tl.constexpr, SCALE: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Gradients of a block of keys and values of one key head, from the queries of its GROUP heads; tiles are (keys, queries)."""
    first_key = tl.program_id(0) * BLOCK_N - past
    key_head = tl.program_id(1)
    key_heads = tl.num_programs(1)
    b = tl.program_id(2).to(tl.int64)
    length = tl.load(lengths_ptr + b).to(tl.int32)
    filled = past if filled_ptr is None else tl.load(filled_ptr + b).to(tl.int32)
    dtype = tau_ptr.dtype.element_ty
    j = first_key + tl.arange(0, BLOCK_N)
    rows = (j + past).to(tl.int64)
    real = (j < length) & (j >= -filled)
    k = load_rows(k_ptr + b * k_row + key_head * WIDTH, rows * k_frame, real, WIDTH, PADDED)
    v = load_rows(v_ptr + b * v_row + key_head * WIDTH, rows * v_frame, real, WIDTH, PADDED)
    dk = tl.zeros([BLOCK_N, PADDED], dtype)
    dv = tl.zeros([BLOCK_N, PADDED], dtype)
    first_seer = tl.maximum(first_key, 0) // chunk * chunk
    reach = first_key + BLOCK_N - 1 + left
    last_seer = tl.where(reach >= 0, tl.minimum(reach // chunk * chunk + chunk, length), 0)
    for head in range(key_head * GROUP, key_head * GROUP + GROUP):
        alpha = tl.load(alpha_ptr + head).to(dtype)
        power = 1.0 / (alpha - 1.0)
        for first_query in range(first_seer, last_seer, BLOCK_M):
            i = first_query + tl.arange(0, BLOCK_M)
            q = load_rows(q_ptr + b * q_row + head * WIDTH, i.to(tl.int64) * q_frame, i < length, WIDTH, PADDED)
            grad = load_rows(grad_ptr + b * grad_row + head * WIDTH, i.to(tl.int64) * grad_frame, i < length, WIDTH, PADDED)
            at = (b * key_heads * GROUP + head) * T + i
            tau = tl.load(tau_ptr + at, mask=i < length, other=float("inf"))
            centre = tl.load(centre_ptr + at, mask=i < length, other=0.0)
            low, high = context(i, length, filled, chunk, left)
            seen = (j[:, None] >= low[None]) & (j[:, None] < high[None])
            x = tl.maximum(tl.where(seen, product(k, tl.trans(q)) * (SCALE * (alpha - 1.0)), float("-inf")) - tau[None], 0.0)
            u = root_weights(x, power)
            g = product(v, tl.trans(grad))
            dv += product((u * x).to(grad.dtype), grad)
            dk += product((u * (g - centre[None])).to(q.dtype), q)
    out = ((b * (T + past) + j + past) * key_heads + key_head) * WIDTH
    store_rows(dk_ptr, out, dk * SCALE, j < T, WIDTH, PADDED)
    store_rows(dv_ptr, out, dv, j < T, WIDTH, PADDED)


#: Newton steps by bytes of an element, to the precision of the type.
STEPS = {2: 6, 4: 8, 8: 12}

#: Queries of a block, keys of a step, elements of a head's slice and warps of the forward kernel, by bytes of an element, keys on the chip
#: and widest padded head: about 64 scores a thread, which Newton's method reads and writes in registers. Wider heads, and blocks of queries
#: that see more keys, take the reference.
FORWARD = {
    (2, 128, 128): (32, 64, 64, 4),
    (2, 256, 128): (16, 64, 64, 4),
    (2, 512, 64): (16, 64, 32, 4),
    (2, 512, 128): (16, 32, 32, 8),
    (2, 1024, 64): (16, 32, 32, 16),
    (4, 128, 64): (16, 32, 32, 4),
    (4, 256, 64): (16, 32, 32, 4),
    (4, 512, 64): (16, 32, 32, 8),
    (8, 128, 64): (16, 16, 16, 4),
    (8, 256, 64): (16, 16, 16, 8),
    (8, 512, 64): (16, 16, 16, 8),
}

#: Owned rows, rows of a step, warps and pipeline stages of the backward kernels, that of queries and that of keys, by bytes of an element
#: and padded width.
BACKWARD = {
    (2, 16): ((64, 32, 4, 2), (64, 64, 4, 2)),
    (2, 32): ((64, 32, 4, 2), (64, 64, 4, 2)),
    (2, 64): ((64, 32, 4, 3), (64, 64, 4, 2)),
    (2, 128): ((64, 32, 8, 2), (64, 32, 8, 2)),
    (4, 16): ((32, 32, 4, 1), (32, 32, 4, 1)),
    (4, 32): ((32, 32, 4, 1), (32, 32, 4, 1)),
    (4, 64): ((32, 16, 8, 1), (32, 16, 4, 1)),
    (8, 16): ((16, 16, 4, 1), (16, 16, 4, 1)),
    (8, 32): ((16, 16, 4, 1), (16, 16, 4, 1)),
    (8, 64): ((16, 16, 4, 1), (16, 16, 4, 1)),
}


def keys_seen(block: int, frames: int, past: int, chunk: int, left: int) -> int:
    """Most keys that a block of ``block`` queries sees; it may touch several chunks."""
    block = min(block, frames)
    spread = 0 if chunk % block == 0 else (block - chunk if block % chunk == 0 else -(-(block - 1) // chunk) * chunk)
    return min(left + chunk + spread, past + frames)


def forward_launch(itemsize: int, width: int, frames: int, past: int, chunk: int, left: int) -> dict[str, int] | None:
    """Sizes for the forward kernel; None where head or keys do not fit on the chip."""
    padded = max(triton.next_power_of_2(width), 16)
    for (size, keys, widest), (block, step, part, warps) in FORWARD.items():
        if size == itemsize and padded <= widest and keys_seen(block, frames, past, chunk, left) <= keys:
            sizes = {"WIDTH": width, "PADDED": padded, "SLICE": min(part, padded), "BLOCK_M": block, "BLOCK_N": step}
            return sizes | {"KEYS": keys, "num_warps": warps, "num_stages": 2}
    return None


def backward_launch(itemsize: int, width: int, owns_keys: bool = False) -> dict[str, int]:
    """Sizes for the backward kernels."""
    padded = max(triton.next_power_of_2(width), 16)
    own, other, warps, stages = BACKWARD[itemsize, padded][owns_keys]
    block_m, block_n = (other, own) if owns_keys else (own, other)
    return {"WIDTH": width, "PADDED": padded, "BLOCK_M": block_m, "BLOCK_N": block_n, "num_warps": warps, "num_stages": stages}


def supports(q: Tensor, k: Tensor, chunk: int, left: int) -> bool:
    """Whether the kernels take these shapes."""
    frames = q.shape[1]
    return forward_launch(q.element_size(), q.shape[3], max(frames, 1), k.shape[1] - frames, chunk, left) is not None


def _arguments(q: Tensor, k: Tensor, *tensors: Tensor) -> list[int]:
    return [stride for x in tensors for stride in x.stride()[:2]] + [q.shape[1], k.shape[1] - q.shape[1]]


def forward(
    q: Tensor, k: Tensor, v: Tensor, alpha: Tensor, lengths: Tensor, filled: Tensor | None, chunk: int, left: int, scale: float
) -> tuple[Tensor, Tensor]:
    """See ``reference.forward``; heads lie side by side in q, k and v, and ``supports`` holds."""
    batch, frames, heads, width = q.shape
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    tau = torch.empty((batch, heads, frames), dtype=wide(q.dtype), device=q.device)
    tile = forward_launch(q.element_size(), width, max(frames, 1), k.shape[1] - frames, chunk, left)
    if out.numel() and tile is not None:
        forward_kernel[triton.cdiv(frames, tile["BLOCK_M"]), heads, batch](
            q, k, v, alpha, lengths, filled, out, tau, *_arguments(q, k, q, k, v), chunk, left,
            GROUP=heads // k.shape[2], SCALE=scale, STEPS=STEPS[q.element_size()], **tile,
        )  # fmt: skip
    return out, tau


def backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    alpha: Tensor,
    lengths: Tensor,
    filled: Tensor | None,
    out: Tensor,
    tau: Tensor,
    chunk: int,
    left: int,
    scale: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See ``reference.backward``; heads lie side by side in grad, q, k and v, and out is contiguous."""
    batch, frames, heads, width = q.shape
    dq, dk, dv = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
    centre, dalpha = torch.empty_like(tau), torch.empty_like(tau)
    if dq.numel():
        arguments: Any = *_arguments(q, k, grad, q, k, v), chunk, left
        flags: dict[str, Any] = {"GROUP": heads // k.shape[2], "SCALE": scale}
        tile = backward_launch(q.element_size(), width)
        queries_backward_kernel[triton.cdiv(frames, tile["BLOCK_M"]), heads, batch](
            grad, q, k, v, alpha, lengths, filled, out, tau, dq, centre, dalpha, *arguments, **flags, **tile
        )
        tile = backward_launch(q.element_size(), width, owns_keys=True)
        keys_backward_kernel[triton.cdiv(k.shape[1], tile["BLOCK_N"]), k.shape[2], batch](
            grad, q, k, v, alpha, lengths, filled, tau, centre, dk, dv, *arguments, **flags, **tile
        )
    return dq, dk, dv, dalpha.sum((0, 2)).to(alpha.dtype)
