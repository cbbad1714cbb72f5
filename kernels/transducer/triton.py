"""Transducer kernels: one pass over the logits for the arcs, α and β side by side, one pass for the gradient."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def log_add(x, y, dtype: tl.constexpr):
    """log(eˣ + eʸ) of float64 scores, the correction computed in ``dtype``; −inf for two −inf, where the plain formula gives NaN."""
    high = tl.maximum(x, y)
    low = tl.minimum(x, y)
    correction = tl.log(1.0 + tl.exp((low - high).to(dtype)))
    return tl.where(low == float("-inf"), high, high + correction)


@triton.jit
def node(first_ptr, frames_ptr, labels_ptr, b, T, R, ROWS: tl.constexpr, HAS_FIRST: tl.constexpr):
    """ROWS rows (t, r) of utterance b: flat index, frame, label position, whether it is a node, number of labels."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    t = row // R
    u = row % R
    if HAS_FIRST:
        u += tl.load(first_ptr + b * T + t, mask=t < T, other=0).to(tl.int32)
    labels = tl.load(labels_ptr + b).to(tl.int32)
    return row, t, u, (t < T) & (t < tl.load(frames_ptr + b)) & (u <= labels), labels


@triton.jit
def arcs_kernel(
    logits_ptr, targets_ptr, first_ptr, frames_ptr, labels_ptr, label_ptr, blank_ptr, norm_ptr,
    T, R, U, V, blank, ROWS: tl.constexpr, BLOCK: tl.constexpr, HAS_FIRST: tl.constexpr,
):  # fmt: skip
    """Log-normaliser of each row by an online softmax, then the two arcs of its node."""
    b = tl.program_id(1).to(tl.int64)
    row, t, u, valid, labels = node(first_ptr, frames_ptr, labels_ptr, b, T, R, ROWS, HAS_FIRST)
    row_ptr = logits_ptr + (b * T * R + row) * V
    dtype = norm_ptr.dtype.element_ty
    high = tl.full([ROWS], float("-inf"), dtype)
    total = tl.zeros([ROWS], dtype)
    column = tl.arange(0, BLOCK)
    for start in range(0, V, BLOCK):
        inside = valid[:, None] & (start + column < V)[None]
        x = tl.load(row_ptr[:, None] + (start + column)[None], mask=inside, other=float("-inf")).to(dtype)
        higher = tl.maximum(high, tl.max(x, 1))
        finite = tl.where(higher == float("-inf"), 0.0, higher)
        total = total * tl.exp(high - finite) + tl.sum(tl.exp(x - finite[:, None]), 1)
        high = higher
    norm = tl.where(valid, high + tl.log(total), 0.0)
    tl.store(norm_ptr + b * T * R + row, norm, mask=t < T)
    emits = valid & (u < labels)
    target = tl.load(targets_ptr + b * U + u, mask=emits, other=0)
    known = emits & (target >= 0) & (target < V)  # a target outside the vocabulary gives NaN, not a stray read
    label = tl.load(row_ptr + target, mask=known, other=float("nan")).to(dtype) - norm
    tl.store(label_ptr + (b * U + u) * T + t, label, mask=emits)
    tl.store(blank_ptr + (b * (U + 1) + u) * T + t, tl.load(row_ptr + blank, mask=valid, other=0.0).to(dtype) - norm, mask=valid)


@triton.jit
def arcs_backward_kernel(
    label_grad_ptr, blank_grad_ptr, logits_ptr, norm_ptr, targets_ptr, first_ptr, frames_ptr, labels_ptr, out_ptr,
    T, R, U, V, blank, ROWS: tl.constexpr, BLOCK: tl.constexpr, HAS_FIRST: tl.constexpr,
):  # fmt: skip
    """Row gradient: what its arcs ask for, less the softmax times their sum; ``out`` may be ``logits``."""
    b = tl.program_id(1).to(tl.int64)
    row, t, u, valid, labels = node(first_ptr, frames_ptr, labels_ptr, b, T, R, ROWS, HAS_FIRST)
    emits = valid & (u < labels)
    target = tl.load(targets_ptr + b * U + u, mask=emits, other=-1)
    to_label = tl.load(label_grad_ptr + (b * U + u) * T + t, mask=emits, other=0.0)
    to_blank = tl.load(blank_grad_ptr + (b * (U + 1) + u) * T + t, mask=valid, other=0.0)
    norm = tl.load(norm_ptr + b * T * R + row, mask=valid, other=0.0)
    offset = (b * T * R + row) * V
    column = tl.arange(0, BLOCK)
    for start in range(0, V, BLOCK):
        v = start + column
        inside = (t < T)[:, None] & (v < V)[None]
        at = offset[:, None] + v[None]
        x = tl.load(logits_ptr + at, mask=inside & valid[:, None], other=float("-inf")).to(norm.dtype)
        gradient = -tl.exp(x - norm[:, None]) * (to_label + to_blank)[:, None]
        gradient += tl.where(v[None] == target[:, None], to_label[:, None], 0.0)
        gradient += tl.where(v[None] == blank, to_blank[:, None], 0.0)
        tl.store(out_ptr + at, gradient.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def lattice_kernel(
    label_ptr, blank_ptr, frames_ptr, labels_ptr, alpha_ptr, beta_ptr, total_ptr, U, T, BLOCK: tl.constexpr, STAGES: tl.constexpr
):  # fmt: skip
    """Program (b, 0) runs α forward, (b, 1) β backward: one anti-diagonal at a time, label positions side by side.

    Scores are float64: in float32 the sums of a few hundred steps would cost the counts their fourth digit.
    """
    b = tl.program_id(0).to(tl.int64)
    frames = tl.load(frames_ptr + b).to(tl.int32)
    labels = tl.load(labels_ptr + b).to(tl.int32)
    diagonals = frames + labels
    label_ptr += b * U * T
    blank_ptr += b * (U + 1) * T
    u = tl.arange(0, BLOCK)
    dtype: tl.constexpr = label_ptr.dtype.element_ty
    none = tl.full([BLOCK], float("-inf"), tl.float64)
    if tl.program_id(1) == 0:
        alpha_ptr += b * (U + 1) * T
        score = tl.where(u == 0, 0.0, none)
        for d in tl.range(0, diagonals, num_stages=STAGES):
            t = d - u
            valid = (t >= 0) & (t < frames) & (u <= labels)
            at = u * T + t
            tl.store(alpha_ptr + at, score, mask=valid)
            from_label = score + tl.load(label_ptr + at, mask=valid & (u < labels), other=float("-inf"))
            from_blank = score + tl.load(blank_ptr + at, mask=valid, other=float("-inf"))
            from_below = tl.gather(from_label, tl.maximum(u - 1, 0), 0)
            score = log_add(from_blank, tl.where(u == 0, none, from_below), dtype)
        tl.store(total_ptr + b, tl.max(tl.where(u == labels, score, none), 0))
    else:
        beta_ptr += b * (U + 1) * T
        score = tl.where(u == labels, 0.0, none)
        for step in tl.range(0, diagonals, num_stages=STAGES):
            t = diagonals - 1 - step - u
            valid = (t >= 0) & (t < frames) & (u <= labels)
            at = u * T + t
            after_label = tl.gather(score, tl.minimum(u + 1, BLOCK - 1), 0)
            after_label += tl.load(label_ptr + at, mask=valid & (u < labels), other=float("-inf"))
            score = log_add(score + tl.load(blank_ptr + at, mask=valid, other=float("-inf")), after_label, dtype)
            tl.store(beta_ptr + at, score, mask=valid)


@triton.jit
def count_kernel(
    label_ptr, blank_ptr, frames_ptr, labels_ptr, alpha_ptr, beta_ptr, total_ptr, label_count_ptr, blank_count_ptr,
    U, T, BLOCK: tl.constexpr,
):  # fmt: skip
    """Expected count of every arc: exp(α before it + its score + β after it − total)."""
    b = tl.program_id(1).to(tl.int64)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    u = at // T
    t = at % T
    frames = tl.load(frames_ptr + b)
    labels = tl.load(labels_ptr + b)
    valid = (u <= labels) & (t < frames)
    emits = valid & (u < labels)
    total = tl.load(total_ptr + b)
    here = b * (U + 1) * T + at
    none = float("-inf")
    dtype: tl.constexpr = label_ptr.dtype.element_ty
    alpha = tl.load(alpha_ptr + here, mask=valid, other=none) - tl.where(total == none, 0.0, total)
    after_label = tl.load(beta_ptr + here + T, mask=emits, other=none)
    after_blank = tl.load(beta_ptr + here + 1, mask=valid & (t + 1 < frames), other=none)
    after_blank = tl.where((u == labels) & (t + 1 == frames), 0.0, after_blank)
    label = tl.load(label_ptr + b * U * T + at, mask=emits, other=none)
    blank = tl.load(blank_ptr + here, mask=valid, other=none)
    tl.store(label_count_ptr + b * U * T + at, tl.exp((alpha + after_label + label).to(dtype)), mask=u < U)
    tl.store(blank_count_ptr + here, tl.exp((alpha + after_blank + blank).to(dtype)), mask=u <= U)


#: Lattices taller than this take the reference: a program holds all label positions of a diagonal.
MAX_LABELS = 4095


def _tile(vocabulary: int) -> dict[str, int]:
    block = min(triton.next_power_of_2(vocabulary), 1024)
    return {"BLOCK": block, "ROWS": max(1, 1024 // block), "num_warps": 1}


def arcs(
    logits: Tensor, targets: Tensor, first: Tensor | None, frames: Tensor, labels: Tensor, blank: int
) -> tuple[Tensor, Tensor, Tensor]:
    """See ``reference.arcs``; ``logits`` and ``targets`` are contiguous."""
    B, T, R, V = logits.shape
    U = targets.shape[1]
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    label = logits.new_full((B, U, T), float("-inf"), dtype=dtype)
    blank_score = logits.new_full((B, U + 1, T), float("-inf"), dtype=dtype)
    norm = logits.new_empty((B, T, R), dtype=dtype)
    tile = _tile(V)
    if norm.numel():
        arcs_kernel[triton.cdiv(T * R, tile["ROWS"]), B](
            logits, targets, first, frames, labels, label, blank_score, norm, T, R, U, V, blank, HAS_FIRST=first is not None, **tile
        )
    return label, blank_score, norm


def arcs_backward(
    label_grad: Tensor,
    blank_grad: Tensor,
    logits: Tensor,
    norm: Tensor,
    targets: Tensor,
    first: Tensor | None,
    frames: Tensor,
    labels: Tensor,
    blank: int,
    in_place: bool = False,
) -> Tensor:
    """See ``reference.arcs_backward``; all contiguous. ``in_place`` writes over ``logits``."""
    B, T, R, V = logits.shape
    out = logits if in_place else torch.empty_like(logits)
    tile = _tile(V)
    if out.numel():
        arcs_backward_kernel[triton.cdiv(T * R, tile["ROWS"]), B](
            label_grad, blank_grad, logits, norm, targets, first, frames, labels, out,
            T, R, targets.shape[1], V, blank, HAS_FIRST=first is not None, **tile,
        )  # fmt: skip
    return out


def lattice(label: Tensor, blank: Tensor, frames: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """See ``reference.lattice``; all contiguous, at most MAX_LABELS labels. No atomics: repeats are equal bit for bit."""
    B, U, T = label.shape
    alpha, beta = blank.new_empty((2, *blank.shape), dtype=torch.float64)
    label_count, blank_count = torch.empty_like(label), torch.empty_like(blank)
    total = blank.new_empty(B, dtype=torch.float64)
    block = triton.next_power_of_2(U + 1)
    if B:
        # loads of the next diagonals are in flight while one is summed; a tall lattice has no room for them in shared memory
        launch = {"BLOCK": block, "STAGES": 4 if block <= 1024 else 1, "num_warps": min(max(block // 32, 1), 8)}
        lattice_kernel[B, 2](label, blank, frames, labels, alpha, beta, total, U, T, **launch)
    if blank.numel():
        count_kernel[triton.cdiv((U + 1) * T, 1024), B](
            label, blank, frames, labels, alpha, beta, total, label_count, blank_count, U, T, BLOCK=1024
        )
    return total.to(blank.dtype), label_count, blank_count
