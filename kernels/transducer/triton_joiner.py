"""The joiner's element-wise work in one pass each way; its matrix products stay in cuBLAS."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def join_kernel(
    encoder_ptr, predictor_ptr, hidden_ptr, encoder_stride, T, R, J, TANH: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """hidden[b, t, u] = activation(encoder[b, t] + predictor[b, u]) for ROWS rows (t, u)."""
    b = tl.program_id(1).to(tl.int64)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    t = row // R
    u = row % R
    dtype: tl.constexpr = tl.float64 if hidden_ptr.dtype.element_ty == tl.float64 else tl.float32
    for start in range(0, J, BLOCK):
        j = (start + tl.arange(0, BLOCK))[None]
        inside = (t < T)[:, None] & (j < J)
        x = tl.load(encoder_ptr + b * encoder_stride + t[:, None] * J + j, mask=inside, other=0.0).to(dtype)
        x += tl.load(predictor_ptr + (b * R + u)[:, None] * J + j, mask=inside, other=0.0).to(dtype)
        x = 1.0 - 2.0 / (1.0 + tl.exp(2.0 * x)) if TANH else tl.maximum(x, 0.0)
        tl.store(hidden_ptr + (b * T * R + row)[:, None] * J + j, x.to(hidden_ptr.dtype.element_ty), mask=inside)


@triton.jit
def join_backward_kernel(
    grad_ptr, hidden_ptr, parts_ptr, predictor_grad_ptr, T, R, J, TANH: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """From the gradient of ``hidden``, that of ROWS label positions of the predictor, and their part in that of every frame."""
    b = tl.program_id(2).to(tl.int64)
    u = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    j = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = (u < R)[:, None] & (j < J)[None]
    dtype: tl.constexpr = parts_ptr.dtype.element_ty
    parts_ptr += (tl.program_id(0) * tl.num_programs(2) + b) * T * J
    total = tl.zeros([ROWS, BLOCK], dtype)
    for t in range(T):
        at = ((b * T + t) * R + u)[:, None] * J + j[None]
        hidden = tl.load(hidden_ptr + at, mask=inside, other=0.0).to(dtype)
        slope = 1.0 - hidden * hidden if TANH else (hidden > 0).to(dtype)
        grad = slope * tl.load(grad_ptr + at, mask=inside, other=0.0).to(dtype)
        total += grad
        tl.store(parts_ptr + t * J + j, tl.sum(grad, 0), mask=j < J)
    tl.store(predictor_grad_ptr + (b * R + u)[:, None] * J + j[None], total, mask=inside)


#: Label positions and elements of a program backward, which is one warp: sums over positions stay within it.
BACKWARD = 16, 64


def join(encoder: Tensor, predictor: Tensor, activation: str) -> Tensor:
    """See ``reference.join``; frames of ``encoder`` and all of ``predictor`` are contiguous."""
    B, T, J = encoder.shape
    R = predictor.shape[1]
    hidden = encoder.new_empty(B, T, R, J)
    block = min(triton.next_power_of_2(J), 1024)
    rows = max(1, 2048 // block)
    if hidden.numel():
        join_kernel[triton.cdiv(T * R, rows), B](
            encoder, predictor, hidden, encoder.stride(0), T, R, J, TANH=activation == "tanh", ROWS=rows, BLOCK=block
        )
    return hidden


def join_backward(grad: Tensor, hidden: Tensor, activation: str) -> tuple[Tensor, Tensor]:
    """See ``reference.join_backward``; contiguous. Parts are summed in one order."""
    B, T, R, J = hidden.shape
    rows, block = BACKWARD
    blocks, wide = triton.cdiv(R, rows), torch.promote_types(hidden.dtype, torch.float32)
    parts, predictor_grad = hidden.new_empty(blocks, B, T, J, dtype=wide), hidden.new_empty(B, R, J, dtype=wide)
    if hidden.numel():
        join_backward_kernel[blocks, triton.cdiv(J, block), B](
            grad, hidden, parts, predictor_grad, T, R, J, TANH=activation == "tanh", ROWS=rows, BLOCK=block, num_warps=1
        )
    return parts.sum(0).to(hidden.dtype), predictor_grad
