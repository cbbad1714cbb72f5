"""Convolution module kernels: a program owns some frames with all their channels, since the layer norm needs them all.

The taps of a frame are read back from the gated frames in the first-level cache. A program gates all frames that it will read,
its neighbour's last ones too: both write the same values, so neither waits for the other.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def convolve(
    gated_ptr, state_ptr, weight_ptr, bias_ptr, t, end, c, inside, dtype: tl.constexpr,
    STEP: tl.constexpr, CHANNELS: tl.constexpr, TAPS: tl.constexpr,
):  # fmt: skip
    """Convolution at frames t < end and channels c; frames before the first are in the state, or zero."""
    y = tl.zeros([t.shape[0], c.shape[0]], dtype) + tl.load(bias_ptr + c, mask=inside, other=0.0).to(dtype)[None]
    for tap in range(TAPS):
        source = t + tap - (TAPS - 1)
        valid = (source >= 0) & (t < end)
        x = tl.load(gated_ptr + source[:, None] * CHANNELS + c[None], mask=valid[:, None] & inside[None], other=0.0)
        if STEP:
            old = (source < 0) & (t < end)
            place = (source + TAPS - 1)[:, None] * CHANNELS + c[None]
            x += tl.load(state_ptr + place, mask=old[:, None] & inside[None], other=0.0)
        y += x.to(dtype) * tl.load(weight_ptr + tap * CHANNELS + c, mask=inside, other=0.0).to(dtype)[None]
    return y


@triton.jit
def standardise(y, inside, EPS: tl.constexpr, CHANNELS: tl.constexpr):
    """Rows with mean 0 and variance 1 over the channels, and the factor that did it."""
    centred = tl.where(inside[None], y - (tl.sum(y, 1) / CHANNELS)[:, None], 0.0)
    inverse = 1.0 / tl.sqrt(tl.sum(centred * centred, 1) / CHANNELS + EPS)
    return centred * inverse[:, None], inverse


@triton.jit
def forward_kernel(
    x_ptr, weight_ptr, bias_ptr, gamma_ptr, beta_ptr, gated_ptr, out_ptr, slots_ptr, lengths_ptr, state_ptr, T, span,
    STEP: tl.constexpr, EPS: tl.constexpr, CHANNELS: tl.constexpr, TAPS: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """``span`` frames of a whole input; or all frames of a step of a stream, whose state is brought up to date."""
    b = tl.program_id(1).to(tl.int64)
    dtype = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    x_ptr += b * T * 2 * CHANNELS
    gated_ptr += b * T * CHANNELS
    end = T
    if STEP:
        end = tl.load(lengths_ptr + b).to(tl.int32)
        slot = b if slots_ptr is None else tl.load(slots_ptr + b).to(tl.int64)
        state_ptr += slot * (TAPS - 1) * CHANNELS
    c = tl.arange(0, BLOCK_C)
    inside = c < CHANNELS
    gamma = tl.load(gamma_ptr + c, mask=inside, other=0.0).to(dtype)[None]
    beta = tl.load(beta_ptr + c, mask=inside, other=0.0).to(dtype)[None]
    first = tl.program_id(0) * span
    last = tl.minimum(first + span, end)
    for start in range(tl.maximum(first - (TAPS - 1), 0), last, BLOCK_T):
        t = start + tl.arange(0, BLOCK_T)
        valid = (t < last)[:, None] & inside[None]
        at = x_ptr + t[:, None].to(tl.int64) * 2 * CHANNELS + c[None]
        a = tl.load(at, mask=valid, other=0.0).to(dtype)
        gate = tl.load(at + CHANNELS, mask=valid, other=0.0).to(dtype)
        gated = (a / (1.0 + tl.exp(-gate))).to(gated_ptr.dtype.element_ty)
        tl.store(gated_ptr + t[:, None] * CHANNELS + c[None], gated, mask=valid)
    tl.debug_barrier()  # the program's other threads read them now
    for start in range(first, tl.minimum(first + span, T), BLOCK_T):
        t = start + tl.arange(0, BLOCK_T)
        y = convolve(gated_ptr, state_ptr, weight_ptr, bias_ptr, t, end, c, inside, dtype, STEP, CHANNELS, TAPS)
        unit, _ = standardise(y, inside, EPS, CHANNELS)
        z = unit * gamma + beta
        z = tl.where((t < end)[:, None], z / (1.0 + tl.exp(-z)), 0.0)
        tl.store(out_ptr + (b * T + t[:, None]) * CHANNELS + c[None], z.to(out_ptr.dtype.element_ty), mask=(t < T)[:, None] & inside[None])
    if STEP:
        MOVED: tl.constexpr = min(BLOCK_C, 256)
        row = tl.arange(0, 32)
        for first_channel in range(0, CHANNELS, MOVED):
            channel = first_channel + tl.arange(0, MOVED)
            valid = (row < TAPS - 1)[:, None] & (channel < CHANNELS)[None] & (end > 0)
            source = (row + end)[:, None]
            old = tl.load(state_ptr + source * CHANNELS + channel[None], mask=valid & (source < TAPS - 1), other=0.0)
            new = tl.load(gated_ptr + (source - (TAPS - 1)) * CHANNELS + channel[None], mask=valid & (source >= TAPS - 1), other=0.0)
            tl.debug_barrier()  # all threads have read what is overwritten now
            tl.store(state_ptr + row[:, None] * CHANNELS + channel[None], old + new, mask=valid)


@triton.jit
def norm_backward_kernel(
    grad_ptr, gated_ptr, weight_ptr, bias_ptr, gamma_ptr, beta_ptr, dconvolved_ptr, sums_ptr, T, span,
    EPS: tl.constexpr, CHANNELS: tl.constexpr, TAPS: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Gradient before SiLU and layer norm of ``span`` frames, and their part in those of bias, gamma and beta."""
    b = tl.program_id(1).to(tl.int64)
    dtype = sums_ptr.dtype.element_ty
    c = tl.arange(0, BLOCK_C)
    inside = c < CHANNELS
    gamma = tl.load(gamma_ptr + c, mask=inside, other=0.0).to(dtype)[None]
    beta = tl.load(beta_ptr + c, mask=inside, other=0.0).to(dtype)[None]
    dbias = tl.zeros([BLOCK_C], dtype)
    dgamma = tl.zeros([BLOCK_C], dtype)
    dbeta = tl.zeros([BLOCK_C], dtype)
    first = tl.program_id(0) * span
    for start in range(first, tl.minimum(first + span, T), BLOCK_T):
        t = start + tl.arange(0, BLOCK_T)
        valid = (t < T)[:, None] & inside[None]
        y = convolve(gated_ptr + b * T * CHANNELS, gated_ptr, weight_ptr, bias_ptr, t, T, c, inside, dtype, False, CHANNELS, TAPS)
        unit, inverse = standardise(y, inside, EPS, CHANNELS)
        z = unit * gamma + beta
        s = 1.0 / (1.0 + tl.exp(-z))
        at = (b * T + t[:, None]) * CHANNELS + c[None]
        dz = tl.load(grad_ptr + at, mask=valid, other=0.0).to(dtype) * s * (1.0 + z * (1.0 - s))
        dunit = dz * gamma
        dy = dunit - (tl.sum(dunit, 1) / CHANNELS)[:, None] - unit * (tl.sum(dunit * unit, 1) / CHANNELS)[:, None]
        dy = tl.where(valid, dy * inverse[:, None], 0.0)
        tl.store(dconvolved_ptr + at, dy.to(dconvolved_ptr.dtype.element_ty), mask=valid)
        dbias += tl.sum(dy, 0)
        dgamma += tl.sum(dz * unit, 0)
        dbeta += tl.sum(dz, 0)
    to = sums_ptr + (b * tl.num_programs(0) + tl.program_id(0)) * 3 * CHANNELS + c
    tl.store(to, dbias, mask=inside)
    tl.store(to + CHANNELS, dgamma, mask=inside)
    tl.store(to + 2 * CHANNELS, dbeta, mask=inside)


@triton.jit
def gate_backward_kernel(
    dconvolved_ptr, x_ptr, gated_ptr, weight_ptr, dx_ptr, sums_ptr, T,
    CHANNELS: tl.constexpr, TAPS: tl.constexpr, TILES: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Gradient of TILES tiles of the input, through convolution and gate, and their part in that of the weights.

    The weights' is added up tile by tile before its rows are summed, which is what takes the time.
    """
    b = tl.program_id(2).to(tl.int64)
    dtype = sums_ptr.dtype.element_ty
    row = tl.arange(0, BLOCK_T)
    first = tl.program_id(0) * TILES * BLOCK_T
    c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = c < CHANNELS
    base = b * T * CHANNELS
    for start in range(first, tl.minimum(first + TILES * BLOCK_T, T), BLOCK_T):
        t = start + row
        valid = (t < T)[:, None] & inside[None]
        dgated = tl.zeros([BLOCK_T, BLOCK_C], dtype)
        for tap in range(TAPS):
            later = (t + (TAPS - 1 - tap))[:, None]
            after = tl.load(dconvolved_ptr + base + later * CHANNELS + c[None], mask=(later < T) & inside[None], other=0.0).to(dtype)
            dgated += after * tl.load(weight_ptr + tap * CHANNELS + c, mask=inside, other=0.0).to(dtype)[None]
        at = 2 * base + t[:, None].to(tl.int64) * 2 * CHANNELS + c[None]
        a = tl.load(x_ptr + at, mask=valid, other=0.0).to(dtype)
        gate = 1.0 / (1.0 + tl.exp(-tl.load(x_ptr + at + CHANNELS, mask=valid, other=0.0).to(dtype)))
        tl.store(dx_ptr + at, (dgated * gate).to(dx_ptr.dtype.element_ty), mask=valid)
        tl.store(dx_ptr + at + CHANNELS, (dgated * a * gate * (1.0 - gate)).to(dx_ptr.dtype.element_ty), mask=valid)
    to = sums_ptr + (b * tl.num_programs(0) + tl.program_id(0)) * TAPS * CHANNELS + c
    for tap in range(TAPS):
        dweight = tl.zeros([BLOCK_T, BLOCK_C], dtype)
        for start in range(first, tl.minimum(first + TILES * BLOCK_T, T), BLOCK_T):
            t = start + row
            valid = (t < T)[:, None] & inside[None]
            earlier = (t - (TAPS - 1 - tap))[:, None]
            dy = tl.load(dconvolved_ptr + base + t[:, None] * CHANNELS + c[None], mask=valid, other=0.0).to(dtype)
            dweight += dy * tl.load(gated_ptr + base + earlier * CHANNELS + c[None], mask=(earlier >= 0) & valid, other=0.0).to(dtype)
        tl.store(to + tap * CHANNELS, tl.sum(dweight, 0), mask=inside)


#: Elements of a tile that holds all channels, "forward" and "backward": registers for two programs or more on a multiprocessor. Frames of
#: a program of those kernels ("span"): more would leave multiprocessors idle, fewer would gate more frames twice. Frames and channels of a
#: tile, warps and tiles of a program of the kernel that need not hold all channels ("gate"): several tiles, so that the weights' gradient
#: has few parts.
SIZES: dict[str, Any] = {"forward": 4096, "backward": 2048, "span": 32, "gate": (64, 64, 4, 4)}


def launch(channels: int, direction: str) -> dict[str, int]:
    """Tile of the kernels that hold all channels, "forward" or "backward"."""
    block = max(triton.next_power_of_2(channels), 64)
    return {"BLOCK_T": min(max(SIZES[direction] // block, 1), 16), "BLOCK_C": block, "num_warps": 8 if block > 256 else 4}


def gate_launch() -> dict[str, int]:
    """Tile of the kernel that need not."""
    return dict(zip(("BLOCK_T", "BLOCK_C", "num_warps", "TILES"), SIZES["gate"], strict=True))


def _by_tap(weight: Tensor) -> Tensor:
    """Weights with the channels of a tap side by side: they are read for every tile."""
    return weight.T.contiguous()


def forward(x: Tensor, weight: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """See ``reference.forward``; all contiguous."""
    batch, frames = x.shape[:2]
    channels, taps = weight.shape
    out, gated = (x.new_empty(batch, frames, channels) for _ in range(2))
    if out.numel():
        span = SIZES["span"]
        forward_kernel[triton.cdiv(frames, span), batch](
            x, _by_tap(weight), bias, gamma, beta, gated, out, None, None, None, frames, span,
            STEP=False, EPS=eps, CHANNELS=channels, TAPS=taps, **launch(channels, "forward"),
        )  # fmt: skip
    return out, gated


def step(
    x: Tensor,
    slots: Tensor | None,
    lengths: Tensor,
    state: Tensor,
    weight: Tensor,
    bias: Tensor,
    gamma: Tensor,
    beta: Tensor,
    eps: float,
) -> Tensor:
    """See ``reference.step``; all contiguous."""
    rows, frames = x.shape[:2]
    channels, taps = weight.shape
    out, gated = (x.new_empty(rows, frames, channels) for _ in range(2))
    if out.numel():
        forward_kernel[1, rows](
            x, _by_tap(weight), bias, gamma, beta, gated, out, slots, lengths, state, frames, frames,
            STEP=True, EPS=eps, CHANNELS=channels, TAPS=taps, **launch(channels, "forward"),
        )  # fmt: skip
    return out


def backward(
    grad: Tensor, x: Tensor, gated: Tensor, weight: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """See ``reference.backward``; all contiguous. Parts are summed in one order: repeats are equal bit for bit."""
    batch, frames = x.shape[:2]
    channels, taps = weight.shape
    wide = torch.promote_types(x.dtype, torch.float32)
    sizes: dict[str, Any] = {"CHANNELS": channels, "TAPS": taps}
    span, gate = SIZES["span"], gate_launch()
    spans, gate_tiles = triton.cdiv(frames, span), triton.cdiv(frames, gate["BLOCK_T"] * gate["TILES"])
    dx, dconvolved = torch.empty_like(x), torch.empty_like(gated)
    sums = x.new_empty(batch * spans, 3, channels, dtype=wide)
    weight_sums = x.new_empty(batch * gate_tiles, taps, channels, dtype=wide)
    by_tap = _by_tap(weight)
    if x.numel():
        norm_backward_kernel[spans, batch](
            grad, gated, by_tap, bias, gamma, beta, dconvolved, sums, frames, span, EPS=eps, **sizes, **launch(channels, "backward")
        )
        gate_backward_kernel[gate_tiles, triton.cdiv(channels, gate["BLOCK_C"]), batch](
            dconvolved, x, gated, by_tap, dx, weight_sums, frames, **sizes, **gate
        )
    dbias, dgamma, dbeta = sums.sum(0).unbind()
    dweight = weight_sums.sum(0).T.to(weight.dtype).contiguous()  # as the operator's shape function says: compiled graphs rely on it
    return dx, dweight, dbias.to(bias.dtype), dgamma.to(gamma.dtype), dbeta.to(beta.dtype)
