"""Monotonic attention kernels: one program a row runs over the labels, each label's recurrence as one scan over the frames."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def compose(factor, x, next_factor, next_x):
    """Y ↦ factor·y + x, then y ↦ next_factor·y + next_x."""
    return factor * next_factor, next_factor * x + next_x


@triton.jit
def ratio(above, below):
    """exp(above − below), and 0 for above = −inf whatever is below."""
    none = above == float("-inf")
    return tl.where(none, 0.0, tl.exp(tl.where(none, 0.0, above) - tl.where(none, 0.0, below)))


@triton.jit
def alignment_kernel(p_ptr, alpha_ptr, q_ptr, U, T, BLOCK: tl.constexpr):
    """q_{i,j} = (1 − p_{i,j−1}) q_{i,j−1} + α_{i−1,j};  α = p·q."""
    at = tl.program_id(0).to(tl.int64) * U * T + tl.arange(0, BLOCK)
    j = tl.arange(0, BLOCK)
    alpha = tl.where(j == 0, 1.0, tl.zeros([BLOCK], p_ptr.dtype.element_ty))
    for _ in range(U):
        p = tl.load(p_ptr + at, mask=j < T, other=0.0)
        pass_on = 1.0 - tl.load(p_ptr + at - 1, mask=(j > 0) & (j < T), other=1.0)
        _, q = tl.associative_scan((pass_on, alpha), 0, compose)
        alpha = p * q
        tl.store(q_ptr + at, q, mask=j < T)
        tl.store(alpha_ptr + at, alpha, mask=j < T)
        at += T


@triton.jit
def alignment_backward_kernel(grad_ptr, p_ptr, q_ptr, out_ptr, U, T, BLOCK: tl.constexpr):
    """The adjoint, from the last label back; frames are read in reverse, so that its recurrence is a forward scan.

    With r_{i,j} = q̄_{i,j+1}:  r_{i,j} = (1 − p_{i,j+1}) r_{i,j+1} + p_{i,j+1} (g_{i,j+1} + r_{i+1,j}).
    """
    k = tl.arange(0, BLOCK)
    j = T - 1 - k
    row = tl.program_id(0).to(tl.int64) * U * T
    zero = tl.zeros([BLOCK], p_ptr.dtype.element_ty)
    q_grad = zero  # of the label after, at j
    q_grad_next = zero  # and at j + 1
    for step in range(U):
        at = row + (U - 1 - step) * T + j
        p_next = tl.load(p_ptr + at + 1, mask=(j >= 0) & (k > 0), other=0.0)
        grad_next = tl.load(grad_ptr + at + 1, mask=(j >= 0) & (k > 0), other=0.0)
        _, q_grad_next = tl.associative_scan((1.0 - p_next, p_next * (grad_next + q_grad_next)), 0, compose)
        p = tl.load(p_ptr + at, mask=j >= 0, other=0.0)
        alpha_grad = tl.load(grad_ptr + at, mask=j >= 0, other=0.0) + q_grad
        q = tl.load(q_ptr + at, mask=j >= 0, other=0.0)
        tl.store(out_ptr + at, q * (alpha_grad - q_grad_next), mask=j >= 0)
        q_grad = p * alpha_grad + (1.0 - p) * q_grad_next


@triton.jit
def normaliser_kernel(energy_ptr, norm_ptr, size, T, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Log-sum-exp of the WIDTH energies that end in a frame."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    k = (at % T).to(tl.int32)
    high = tl.load(energy_ptr + at, mask=at < size, other=float("-inf"))
    for back in range(1, WIDTH):
        high = tl.maximum(high, tl.load(energy_ptr + at - back, mask=(at < size) & (k >= back), other=float("-inf")))
    finite = tl.where(high == float("-inf"), 0.0, high)
    total = tl.zeros([BLOCK], high.dtype)
    for back in range(WIDTH):
        total += tl.exp(tl.load(energy_ptr + at - back, mask=(at < size) & (k >= back), other=float("-inf")) - finite)
    tl.store(norm_ptr + at, high + tl.log(total), mask=at < size)


@triton.jit
def window_kernel(x_ptr, energy_ptr, norm_ptr, out_ptr, size, T, WIDTH: tl.constexpr, COLLECT: tl.constexpr, BLOCK: tl.constexpr):
    """COLLECT: Σ_j x_j exp(u_j − D_here) over the window that ends here; else Σ_k x_k exp(u_here − D_k) over those that hold it."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    here = (at % T).to(tl.int32)
    inside = at < size
    total = tl.zeros([BLOCK], x_ptr.dtype.element_ty)
    own = tl.load((norm_ptr if COLLECT else energy_ptr) + at, mask=inside, other=float("-inf"))
    for offset in range(WIDTH):
        other = at - offset if COLLECT else at + offset
        valid = inside & ((here >= offset) if COLLECT else (here + offset < T))
        x = tl.load(x_ptr + other, mask=valid, other=0.0)
        if COLLECT:
            total += x * ratio(tl.load(energy_ptr + other, mask=valid, other=float("-inf")), own)
        else:
            total += x * ratio(own, tl.load(norm_ptr + other, mask=valid, other=float("inf")))
    tl.store(out_ptr + at, total, mask=inside)


@triton.jit
def running_kernel(x_ptr, energy_ptr, norm_ptr, out_ptr, T, COLLECT: tl.constexpr, BLOCK: tl.constexpr):
    """``window_kernel`` for windows that reach back to the first frame: one scan a row, in reverse for the transpose."""
    i = tl.arange(0, BLOCK)
    j = i if COLLECT else T - 1 - i
    inside = i < T
    at = tl.program_id(0).to(tl.int64) * T + j
    x = tl.load(x_ptr + at, mask=inside, other=0.0)
    norm = tl.load(norm_ptr + at, mask=inside, other=0.0)
    share = ratio(tl.load(energy_ptr + at, mask=inside, other=float("-inf")), norm)
    if COLLECT:
        before = tl.load(norm_ptr + at - 1, mask=inside & (i > 0), other=float("-inf"))
        _, total = tl.associative_scan((ratio(before, norm), share * x), 0, compose)
    else:
        after = tl.load(norm_ptr + at + 1, mask=inside & (i > 0), other=0.0)
        _, total = tl.associative_scan((ratio(norm, after), x), 0, compose)
        total *= share
    tl.store(out_ptr + at, total, mask=inside)


#: Longer inputs take the reference: a program holds all frames of a row.
MAX_FRAMES = 2048


#: Frames of a row that a warp holds.
SIZES = {"frames a warp": 64}


def _launch(frames: int) -> dict[str, int]:
    block = triton.next_power_of_2(frames)
    return {"BLOCK": block, "num_warps": min(max(block // SIZES["frames a warp"], 1), 16)}


def alignment(p: Tensor) -> tuple[Tensor, Tensor]:
    """See ``reference.alignment``; contiguous float32 or float64, at most MAX_FRAMES frames."""
    alpha, q = torch.empty_like(p), torch.empty_like(p)
    alignment_kernel[(len(p),)](p, alpha, q, *p.shape[1:], **_launch(p.shape[2]))
    return alpha, q


def alignment_backward(grad: Tensor, p: Tensor, q: Tensor) -> Tensor:
    """See ``reference.alignment_backward``."""
    out = torch.empty_like(p)
    alignment_backward_kernel[(len(p),)](grad, p, q, out, *p.shape[1:], **_launch(p.shape[2]))
    return out


def log_normaliser(energy: Tensor, width: int) -> Tensor:
    """See ``reference.log_normaliser``; PyTorch's own scan for width 0."""
    if width == 0:
        return energy.logcumsumexp(-1)
    norm = torch.empty_like(energy)
    normaliser_kernel[(triton.cdiv(energy.numel(), 512),)](energy, norm, energy.numel(), energy.shape[-1], WIDTH=width, BLOCK=512)
    return norm


def spread(x: Tensor, energy: Tensor, norm: Tensor, width: int) -> Tensor:
    """See ``reference.spread``."""
    return _windows(x, energy, norm, width, False)


def collect(x: Tensor, energy: Tensor, norm: Tensor, width: int) -> Tensor:
    """See ``reference.collect``."""
    return _windows(x, energy, norm, width, True)


def _windows(x: Tensor, energy: Tensor, norm: Tensor, width: int, transposed: bool) -> Tensor:
    out = torch.empty_like(x)
    time = x.shape[-1]
    if width:
        grid = (triton.cdiv(x.numel(), 512),)
        window_kernel[grid](x, energy, norm, out, x.numel(), time, WIDTH=width, COLLECT=transposed, BLOCK=512)
    else:
        running_kernel[(x.numel() // time,)](x, energy, norm, out, time, COLLECT=transposed, **_launch(time))
    return out
