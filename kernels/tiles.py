"""Pieces of Triton code that several families' kernels are made of."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"

import triton
import triton.language as tl


@triton.jit
def load_rows(x_ptr, rows, valid, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Rows of ``x``, zero where they are not valid or beyond WIDTH."""
    d = tl.arange(0, PADDED)
    return tl.load(x_ptr + rows[:, None] + d[None], mask=valid[:, None] & (d < WIDTH)[None], other=0.0)


@triton.jit
def store_rows(x_ptr, rows, x, valid, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Write rows of ``x`` where they are valid, in the dtype of the memory."""
    d = tl.arange(0, PADDED)
    tl.store(x_ptr + rows[:, None] + d[None], x.to(x_ptr.dtype.element_ty), mask=valid[:, None] & (d < WIDTH)[None])


@triton.jit
def product(a, b):
    """Matrix product; float32 keeps its precision on tensor cores."""
    return tl.dot(a, b, input_precision="tf32x3")
