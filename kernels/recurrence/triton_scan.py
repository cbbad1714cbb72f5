"""Scans over frames: a program owns some channels of one row, and carries their last values from block to block of frames."""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"

import torch
import triton
import triton.language as tl
from torch import Tensor

from .reference import wide


@triton.jit
def compose(factor, x, next_factor, next_x):
    """Y ↦ factor·y + x, then y ↦ next_factor·y + next_x."""
    return factor * next_factor, next_factor * x + next_x


@triton.jit
def compose_with_slope(factor, slope, x, dx, next_factor, next_slope, next_x, next_dx):
    """The same for y and its derivative by the factor: (y, y') ↦ (factor·y + x, factor·y' + slope·y + dx)."""
    return (
        factor * next_factor,
        next_factor * slope + next_slope * factor,
        next_factor * x + next_x,
        next_factor * dx + next_slope * x + next_dx,
    )


@triton.jit
def last_row(x, BLOCK_T: tl.constexpr):
    """The last of BLOCK_T rows; a scan that runs past the end stands still there."""
    row = tl.arange(0, BLOCK_T)
    row = row[:, None] if len(x.shape) == 2 else row[:, None, None]
    return tl.sum(tl.where(row == BLOCK_T - 1, x, 0.0), 0)


@triton.jit
def segment_of(length, phase, T, chunk):
    """First frame of a program's chunk, its end, and its end without frames beyond the row's length."""
    start = tl.program_id(1) * chunk - phase
    end = tl.minimum(start + chunk, T)
    return tl.maximum(start, 0), end, tl.minimum(end, length)


@triton.jit
def scan_kernel(
    x_ptr, gate_ptr, lengths_ptr, phase_ptr, state_ptr, y_ptr, x_row, x_frame, gate_row, gate_frame, T, D, chunk,
    HAS_STATE: tl.constexpr, HAS_PHASE: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """y_t = gate_t · y_{t−1} + x_t inside one chunk."""
    row = tl.program_id(2).to(tl.int64)
    d = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)
    length = tl.load(lengths_ptr + row).to(tl.int32)
    phase = tl.load(phase_ptr + row).to(tl.int32) if HAS_PHASE else 0
    begin, end, stop = segment_of(length, phase, T, chunk)
    dtype = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    carry = tl.zeros([BLOCK_D], dtype)
    if HAS_STATE:
        continues = (begin == 0) & ((phase > 0) if HAS_PHASE else True)
        carry = tl.load(state_ptr + row * D + d, mask=(d < D) & continues, other=0.0).to(dtype)
    for start in range(begin, end, BLOCK_T):
        t = (start + tl.arange(0, BLOCK_T))[:, None]
        real = (t < stop) & (d < D)[None]
        x = tl.load(x_ptr + row * x_row + t.to(tl.int64) * x_frame + d[None], mask=real, other=0.0).to(dtype)
        gate = tl.load(gate_ptr + row * gate_row + t.to(tl.int64) * gate_frame + d[None], mask=real, other=1.0).to(dtype)
        x += tl.where(t == start, gate * carry[None], 0.0)
        _, y = tl.associative_scan((gate, x), 0, compose)
        carry = last_row(y, BLOCK_T)
        out = tl.where(t < stop, y, 0.0).to(y_ptr.dtype.element_ty)
        tl.store(y_ptr + (row * T + t) * D + d[None], out, mask=(t < end) & (d < D)[None])


@triton.jit
def scan_backward_kernel(
    grad_ptr, gate_ptr, y_ptr, lengths_ptr, phase_ptr, state_ptr, dx_ptr, dgate_ptr, dstate_ptr,
    grad_row, grad_frame, gate_row, gate_frame, T, D, chunk,
    HAS_STATE: tl.constexpr, HAS_PHASE: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """r_t = g_t + gate_{t+1} · r_{t+1} is the gradient of x, and r_t · y_{t−1} that of the gate; from the end of a chunk back."""
    row = tl.program_id(2).to(tl.int64)
    d = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)
    length = tl.load(lengths_ptr + row).to(tl.int32)
    phase = tl.load(phase_ptr + row).to(tl.int32) if HAS_PHASE else 0
    begin, end, stop = segment_of(length, phase, T, chunk)
    dtype = tl.float64 if grad_ptr.dtype.element_ty == tl.float64 else tl.float32
    continues = False
    before_first = tl.zeros([BLOCK_D], dtype)
    if HAS_STATE:
        continues = (begin == 0) & ((phase > 0) if HAS_PHASE else True)
        before_first = tl.load(state_ptr + row * D + d, mask=(d < D) & continues, other=0.0).to(dtype)
    carry = tl.zeros([BLOCK_D], dtype)  # gate · r of the frame after
    for start in range(0, end - begin, BLOCK_T):
        k = tl.arange(0, BLOCK_T)[:, None]
        t = end - 1 - start - k
        inside = (t >= begin) & (d < D)[None]
        real = inside & (t < stop)
        at_gate = gate_ptr + row * gate_row + t.to(tl.int64) * gate_frame + d[None]
        grad = tl.load(grad_ptr + row * grad_row + t.to(tl.int64) * grad_frame + d[None], mask=real, other=0.0).to(dtype)
        gate_next = tl.load(at_gate + gate_frame, mask=(t >= begin) & (t + 1 < stop) & (d < D)[None] & (k > 0), other=0.0).to(dtype)
        gate_next = tl.where(t >= begin, gate_next, 1.0)
        grad += tl.where(k == 0, carry[None], 0.0)
        _, r = tl.associative_scan((gate_next, grad), 0, compose)
        gate = tl.load(at_gate, mask=real, other=0.0).to(dtype)
        y = tl.load(y_ptr + (row * T + t - 1) * D + d[None], mask=real & (t > begin), other=0.0).to(dtype)
        y = tl.where(t == begin, before_first[None], y)
        out = (row * T + t) * D + d[None]
        r = tl.where(t < stop, r, 0.0)
        tl.store(dx_ptr + out, r.to(dx_ptr.dtype.element_ty), mask=inside)
        tl.store(dgate_ptr + out, (r * y).to(dgate_ptr.dtype.element_ty), mask=inside)
        first = tl.maximum(end - start - BLOCK_T, begin)  # of this block's frames
        carry = tl.sum(tl.where(t == first, gate * r, 0.0), 0)
    if HAS_STATE:
        tl.store(dstate_ptr + row * D + d, tl.where(continues, carry, 0.0), mask=(d < D) & (begin == 0))


@triton.jit
def ema_kernel(
    u_ptr, decay_ptr, weight_ptr, lengths_ptr, state_ptr, out_ptr, after_ptr, u_row, u_frame, T, D, N,
    BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """N moving averages of BLOCK_D channels, and their weighted sum."""
    row = tl.program_id(1).to(tl.int64)
    d = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)
    length = tl.minimum(tl.load(lengths_ptr + row), T).to(tl.int32)
    n = tl.arange(0, BLOCK_N)
    at = d[:, None] * N + n[None]
    inside = (d < D)[:, None] & (n < N)[None]
    dtype = after_ptr.dtype.element_ty
    decay = tl.load(decay_ptr + at, mask=inside, other=0.0).to(dtype)
    weight = tl.load(weight_ptr + at, mask=inside, other=0.0).to(dtype)
    y_last = tl.load(state_ptr + row * D * N + at, mask=inside, other=0.0)
    for start in range(0, length, BLOCK_T):
        t = start + tl.arange(0, BLOCK_T)
        real = (t < length)[:, None] & (d < D)[None]
        u = tl.load(u_ptr + row * u_row + (t.to(tl.int64) * u_frame)[:, None] + d[None], mask=real, other=0.0).to(dtype)
        x = u[:, :, None] + tl.where((t == start)[:, None, None], (decay * y_last)[None], 0.0)
        factor = tl.where((t < length)[:, None, None], decay[None], 1.0)
        _, y = tl.associative_scan((factor, x), 0, compose)
        y_last = last_row(y, BLOCK_T)
        out = tl.where(real, tl.sum(y * weight[None], 2), 0.0)
        tl.store(out_ptr + (row * T + t)[:, None] * D + d[None], out.to(out_ptr.dtype.element_ty), mask=(t < T)[:, None] & (d < D)[None])
    for start in range(tl.cdiv(length, BLOCK_T) * BLOCK_T, T, BLOCK_T):
        t = start + tl.arange(0, BLOCK_T)
        nothing = tl.zeros([BLOCK_T, BLOCK_D], out_ptr.dtype.element_ty)
        tl.store(out_ptr + (row * T + t)[:, None] * D + d[None], nothing, mask=(t < T)[:, None] & (d < D)[None])
    tl.store(after_ptr + row * D * N + at, y_last, mask=inside)


@triton.jit
def ema_backward_kernel(
    grad_ptr, after_grad_ptr, u_ptr, decay_ptr, weight_ptr, lengths_ptr, state_ptr, du_ptr, ddecay_ptr, dweight_ptr, dstate_ptr,
    grad_row, grad_frame, u_row, u_frame, T, D, N, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Some programs go back in time for the gradients of u and state, the others forward for those of decay and weight.

    Forward, each average is accompanied by its derivative by its decay: so neither kernel keeps averages in memory.
    """
    row = tl.program_id(1).to(tl.int64)
    d = tl.program_id(0) * BLOCK_D + tl.arange(0, BLOCK_D)
    length = tl.minimum(tl.load(lengths_ptr + row), T).to(tl.int32)
    n = tl.arange(0, BLOCK_N)
    at = d[:, None] * N + n[None]
    inside = (d < D)[:, None] & (n < N)[None]
    dtype = dstate_ptr.dtype.element_ty
    decay = tl.load(decay_ptr + at, mask=inside, other=0.0).to(dtype)
    weight = tl.load(weight_ptr + at, mask=inside, other=0.0).to(dtype)
    after_grad = tl.load(after_grad_ptr + row * D * N + at, mask=inside, other=0.0)
    k = tl.arange(0, BLOCK_T)
    grad_ptr += row * grad_row
    u_ptr += row * u_row
    if tl.program_id(2) == 0:
        carry = after_grad
        for start in range(0, length, BLOCK_T):
            t = length - 1 - start - k
            real = (t >= 0)[:, None] & (d < D)[None]
            grad = tl.load(grad_ptr + (t.to(tl.int64) * grad_frame)[:, None] + d[None], mask=real, other=0.0).to(dtype)
            x = grad[:, :, None] * weight[None] + tl.where((k == 0)[:, None, None], carry[None], 0.0)
            factor = tl.where((t >= 0)[:, None, None], decay[None], 1.0)
            _, r = tl.associative_scan((factor, x), 0, compose)
            carry = decay * last_row(r, BLOCK_T)
            tl.store(du_ptr + (row * T + t)[:, None] * D + d[None], tl.sum(r, 2).to(du_ptr.dtype.element_ty), mask=real)
        for start in range(length, T, BLOCK_T):
            nothing = tl.zeros([BLOCK_T, BLOCK_D], du_ptr.dtype.element_ty)
            tl.store(du_ptr + (row * T + start + k)[:, None] * D + d[None], nothing, mask=(start + k < T)[:, None] & (d < D)[None])
        tl.store(dstate_ptr + row * D * N + at, carry, mask=inside)
    else:
        y_last = tl.load(state_ptr + row * D * N + at, mask=inside, other=0.0)
        slope_last = tl.zeros([BLOCK_D, BLOCK_N], dtype)
        ddecay = tl.zeros([BLOCK_D, BLOCK_N], dtype)
        dweight = tl.zeros([BLOCK_D, BLOCK_N], dtype)
        for start in range(0, length, BLOCK_T):
            t = start + k
            real = (t < length)[:, None] & (d < D)[None]
            grad = tl.load(grad_ptr + (t.to(tl.int64) * grad_frame)[:, None] + d[None], mask=real, other=0.0).to(dtype)
            u = tl.load(u_ptr + (t.to(tl.int64) * u_frame)[:, None] + d[None], mask=real, other=0.0).to(dtype)
            first = (k == 0)[:, None, None]
            x = u[:, :, None] + tl.where(first, (decay * y_last)[None], 0.0)
            dx = tl.where(first, (decay * slope_last + y_last)[None], tl.zeros(x.shape, dtype))
            moves = (t < length)[:, None, None]
            one = tl.where(moves, 1.0, tl.zeros(x.shape, dtype))
            factor = tl.where(moves, decay[None], 1.0)
            _, _, y, slope = tl.associative_scan((factor, one, x, dx), 0, compose_with_slope)
            y_last = last_row(y, BLOCK_T)
            slope_last = last_row(slope, BLOCK_T)
            dweight += tl.sum(y * grad[:, :, None], 0)
            ddecay += tl.sum(slope * grad[:, :, None], 0)
        tl.store(dweight_ptr + row * D * N + at, dweight, mask=inside)
        tl.store(ddecay_ptr + row * D * N + at, weight * ddecay + after_grad * slope_last, mask=inside)


#: More averages a channel take the reference.
MAX_AVERAGES = 64

#: Frames and channels of a program's block, and warps, of "scan"; frames and (channel, average) pairs of a block, and warps, of "ema":
#: about one pair a thread, its frames in registers.
SIZES = {"scan": (16, 64, 2), "ema": (32, 128, 4), "ema_backward": (16, 128, 4)}


def scan_launch(frames: int) -> dict[str, int]:
    """Block sizes for chunks, or whole inputs, of ``frames`` frames."""
    block, channels, warps = SIZES["scan"]
    return {"BLOCK_T": min(block, triton.next_power_of_2(frames)), "BLOCK_D": channels, "num_warps": warps}


def ema_launch(frames: int, averages: int, backward: bool = False) -> dict[str, int]:
    """Block sizes for inputs of ``frames`` frames."""
    block, columns, warps = SIZES["ema_backward" if backward else "ema"]
    padded = triton.next_power_of_2(averages)
    sizes = {"BLOCK_T": min(block, triton.next_power_of_2(frames)), "BLOCK_D": max(columns // padded, 1), "BLOCK_N": padded}
    return sizes | {"num_warps": warps}


def _scan_grid(frames: int, channels: int, rows: int, chunk: int, phase: Tensor | None, block: int) -> tuple[int, int, int]:
    return triton.cdiv(channels, block), triton.cdiv(frames + (0 if phase is None else chunk - 1), chunk), rows


def scan(x: Tensor, gate: Tensor, lengths: Tensor, phase: Tensor | None, state: Tensor | None, chunk: int) -> Tensor:
    """See ``reference.scan``; channels lie side by side, and no tensor is empty."""
    rows, frames, channels = x.shape
    chunk = min(chunk, frames) if phase is None else chunk
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    tile = scan_launch(min(chunk, frames))
    scan_kernel[_scan_grid(frames, channels, rows, chunk, phase, tile["BLOCK_D"])](
        x, gate, lengths, phase, state, y, *x.stride()[:2], *gate.stride()[:2], frames, channels, chunk,
        HAS_STATE=state is not None, HAS_PHASE=phase is not None, **tile,
    )  # fmt: skip
    return y


def scan_backward(
    grad: Tensor, gate: Tensor, y: Tensor, lengths: Tensor, phase: Tensor | None, state: Tensor | None, chunk: int
) -> tuple[Tensor, Tensor, Tensor]:
    """See ``reference.scan_backward``."""
    rows, frames, channels = grad.shape
    chunk = min(chunk, frames) if phase is None else chunk
    dx, dgate = (torch.empty(grad.shape, dtype=z.dtype, device=grad.device) for z in (grad, gate))
    dstate = torch.empty((rows, channels), dtype=wide(grad.dtype), device=grad.device)
    tile = scan_launch(min(chunk, frames))
    scan_backward_kernel[_scan_grid(frames, channels, rows, chunk, phase, tile["BLOCK_D"])](
        grad, gate, y, lengths, phase, state, dx, dgate, dstate, *grad.stride()[:2], *gate.stride()[:2], frames, channels, chunk,
        HAS_STATE=state is not None, HAS_PHASE=phase is not None, **tile,
    )  # fmt: skip
    return dx, dgate, dstate


def ema(u: Tensor, decay: Tensor, weight: Tensor, lengths: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """See ``reference.ema``; ``state`` is contiguous, of the dtype of sums."""
    rows, frames, channels = u.shape
    out, after = torch.empty(u.shape, dtype=u.dtype, device=u.device), torch.empty_like(state)
    tile = ema_launch(frames, decay.shape[1])
    ema_kernel[triton.cdiv(channels, tile["BLOCK_D"]), rows](
        u, decay, weight, lengths, state, out, after, *u.stride()[:2], frames, channels, decay.shape[1], **tile
    )
    return out, after


def ema_backward(
    grad: Tensor, state_grad: Tensor, u: Tensor, decay: Tensor, weight: Tensor, lengths: Tensor, state: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See ``reference.ema_backward``. No atomics: each row's share of the parameters' gradients is written, then summed."""
    rows, frames, channels = u.shape
    du, dstate = torch.empty(u.shape, dtype=u.dtype, device=u.device), torch.empty_like(state)
    ddecay, dweight = torch.empty_like(state), torch.empty_like(state)
    tile = ema_launch(frames, decay.shape[1], backward=True)
    ema_backward_kernel[triton.cdiv(channels, tile["BLOCK_D"]), rows, 2](
        grad, state_grad, u, decay, weight, lengths, state, du, ddecay, dweight, dstate, *grad.stride()[:2], *u.stride()[:2],
        frames, channels, decay.shape[1], **tile,
    )  # fmt: skip
    return du, ddecay.sum(0).to(decay.dtype), dweight.sum(0).to(weight.dtype), dstate
