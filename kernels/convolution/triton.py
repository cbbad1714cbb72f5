"""Convolution module kernels: the convolution slides along frames, and kernels around it normalise rows of channels.

A thread of the sliding kernels owns channels and keeps the frames that the taps reach, and the taps themselves, in registers: each frame
is read once a program, and a tap costs one multiplication. What the layer norm gets is kept for the gradient, in the dtype of the input.
"""

# mypy: disable-error-code="no-untyped-def,untyped-decorator,assignment,var-annotated"

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def load_taps(weight_ptr, c, inside, dtype: tl.constexpr, CHANNELS: tl.constexpr, TAPS: tl.constexpr):
    """Weights of channels c, a tuple over taps."""
    taps = ()
    for tap in tl.static_range(TAPS):
        taps = taps + (tl.load(weight_ptr + tap * CHANNELS + c, mask=inside, other=0.0).to(dtype),)
    return taps


@triton.jit
def load_gated(x_ptr, t, valid, c, dtype: tl.constexpr, CHANNELS: tl.constexpr):
    """Channels c of the gated frame t, rounded as a stream's state is; and value and open gate."""
    at = x_ptr + tl.cast(t, tl.int64) * 2 * CHANNELS + c
    value = tl.load(at, mask=valid, other=0.0).to(dtype)
    gate = 1.0 / (1.0 + tl.exp(-tl.load(at + CHANNELS, mask=valid, other=0.0).to(dtype)))
    return (value * gate).to(x_ptr.dtype.element_ty).to(dtype), value, gate


@triton.jit
def convolve_kernel(
    x_ptr, weight_ptr, bias_ptr, convolved_ptr, slots_ptr, lengths_ptr, state_ptr, T, span,
    STEP: tl.constexpr, CHANNELS: tl.constexpr, TAPS: tl.constexpr, BLOCK_C: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    """Gate and convolution of ``span`` frames of a whole input; or of a step of a stream, whose state is brought up to date."""
    b = tl.program_id(2).to(tl.int64)
    dtype = tl.float64 if x_ptr.dtype.element_ty == tl.float64 else tl.float32
    c = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = c < CHANNELS
    x_ptr += b * T * 2 * CHANNELS
    convolved_ptr += b * T * CHANNELS
    taps = load_taps(weight_ptr, c, inside, dtype, CHANNELS, TAPS)
    bias = tl.load(bias_ptr + c, mask=inside, other=0.0).to(dtype)
    first = tl.program_id(1) * span
    last = tl.minimum(first + span, T)
    window = ()
    if STEP:
        last = tl.load(lengths_ptr + b).to(tl.int32)
        slot = b if slots_ptr is None else tl.load(slots_ptr + b).to(tl.int64)
        state_ptr += slot * (TAPS - 1) * CHANNELS + c
        for row in tl.static_range(TAPS - 1):
            window = window + (tl.load(state_ptr + row * CHANNELS, mask=inside & (last > 0), other=0.0).to(dtype),)
        for row in tl.static_range(TAPS - 1):  # all are in registers now
            kept = window[row].to(state_ptr.dtype.element_ty)
            tl.store(state_ptr - (last - row) * CHANNELS, kept, mask=inside & (last > 0) & (last <= row))
    else:
        for before in tl.static_range(TAPS - 1):
            t = first + (before - (TAPS - 1))
            window = window + (load_gated(x_ptr, t, inside & (t >= 0), c, dtype, CHANNELS)[0],)
    for start in range(first, last, UNROLL):
        frames = window
        for u in tl.static_range(UNROLL):
            valid = inside & (start + u < last)
            gated = load_gated(x_ptr, start + u, valid, c, dtype, CHANNELS)[0]
            frames = frames + (gated,)
            if STEP:
                place = start + u - last + (TAPS - 1)
                tl.store(state_ptr + place * CHANNELS, gated.to(state_ptr.dtype.element_ty), mask=valid & (place >= 0))
        for u in tl.static_range(UNROLL):
            y = bias
            for tap in tl.static_range(TAPS):
                y += taps[tap] * frames[u + tap]
            at = convolved_ptr + tl.cast(start + u, tl.int64) * CHANNELS + c
            tl.store(at, y.to(convolved_ptr.dtype.element_ty), mask=inside & (start + u < last))
        window = frames[UNROLL:]


@triton.jit
def standardise(y, inside, EPS: tl.constexpr, CHANNELS: tl.constexpr):
    """Rows with mean 0 and variance 1 over the channels, and the factor that did it."""
    centred = tl.where(inside[None], y - (tl.sum(y, 1) / CHANNELS)[:, None], 0.0)
    inverse = 1.0 / tl.sqrt(tl.sum(centred * centred, 1) / CHANNELS + EPS)
    return centred * inverse[:, None], inverse


@triton.jit
def norm_kernel(
    convolved_ptr, gamma_ptr, beta_ptr, lengths_ptr, out_ptr, T,
    EPS: tl.constexpr, CHANNELS: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_C: tl.constexpr,
):  # fmt: skip
    """Layer norm and SiLU of BLOCK_T frames; 0 beyond a length, where there are lengths."""
    b = tl.program_id(1).to(tl.int64)
    dtype = tl.float64 if out_ptr.dtype.element_ty == tl.float64 else tl.float32
    c = tl.arange(0, BLOCK_C)
    inside = c < CHANNELS
    t = tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)
    end = T if lengths_ptr is None else tl.load(lengths_ptr + b).to(tl.int32)
    real = (t < end)[:, None]
    at = (b * T + t[:, None]) * CHANNELS + c[None]
    unit, _ = standardise(tl.load(convolved_ptr + at, mask=real & inside[None], other=0.0).to(dtype), inside, EPS, CHANNELS)
    gamma = tl.load(gamma_ptr + c, mask=inside, other=0.0).to(dtype)[None]
    z = unit * gamma + tl.load(beta_ptr + c, mask=inside, other=0.0).to(dtype)[None]
    z = tl.where(real, z / (1.0 + tl.exp(-z)), 0.0)
    tl.store(out_ptr + at, z.to(out_ptr.dtype.element_ty), mask=(t < T)[:, None] & inside[None])


@triton.jit
def norm_backward_kernel(
    grad_ptr, convolved_ptr, gamma_ptr, beta_ptr, dconvolved_ptr, sums_ptr, T, span,
    EPS: tl.constexpr, CHANNELS: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_C: tl.constexpr,
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
        at = (b * T + t[:, None]) * CHANNELS + c[None]
        unit, inverse = standardise(tl.load(convolved_ptr + at, mask=valid, other=0.0).to(dtype), inside, EPS, CHANNELS)
        z = unit * gamma + beta
        s = 1.0 / (1.0 + tl.exp(-z))
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
    dconvolved_ptr, x_ptr, weight_ptr, dx_ptr, sums_ptr, T, span,
    CHANNELS: tl.constexpr, TAPS: tl.constexpr, BLOCK_C: tl.constexpr, UNROLL: tl.constexpr,
):  # fmt: skip
    """Gradient of ``span`` frames of the input, through convolution and gate, and their part in that of the weights.

    Both are sums over the outputs that a frame reaches: those of the next TAPS frames.
    """
    b = tl.program_id(2).to(tl.int64)
    dtype = sums_ptr.dtype.element_ty
    c = tl.program_id(0) * BLOCK_C + tl.arange(0, BLOCK_C)
    inside = c < CHANNELS
    x_ptr += b * T * 2 * CHANNELS
    dx_ptr += b * T * 2 * CHANNELS
    dconvolved_ptr += b * T * CHANNELS + c
    taps = load_taps(weight_ptr, c, inside, dtype, CHANNELS, TAPS)
    first = tl.program_id(1) * span
    last = tl.minimum(first + span, T)
    dtaps = ()
    for _ in tl.static_range(TAPS):
        dtaps = dtaps + (tl.zeros([BLOCK_C], dtype),)
    window = ()
    for ahead in tl.static_range(TAPS - 1):
        t = first + ahead
        window = window + (tl.load(dconvolved_ptr + tl.cast(t, tl.int64) * CHANNELS, mask=inside & (t < T), other=0.0).to(dtype),)
    for start in range(first, last, UNROLL):
        reached = window
        for u in tl.static_range(UNROLL):
            t = start + (TAPS - 1 + u)
            reached = reached + (tl.load(dconvolved_ptr + tl.cast(t, tl.int64) * CHANNELS, mask=inside & (t < T), other=0.0).to(dtype),)
        for u in tl.static_range(UNROLL):
            t = start + u
            valid = inside & (t < last)
            gated, value, gate = load_gated(x_ptr, t, valid, c, dtype, CHANNELS)
            dgated = tl.zeros([BLOCK_C], dtype)
            sums = ()
            for tap in tl.static_range(TAPS):
                dy = reached[u + (TAPS - 1 - tap)]
                dgated += taps[tap] * dy
                sums = sums + (dtaps[tap] + gated * dy,)
            dtaps = sums
            to = dx_ptr + tl.cast(t, tl.int64) * 2 * CHANNELS + c
            tl.store(to, (dgated * gate).to(dx_ptr.dtype.element_ty), mask=valid)
            tl.store(to + CHANNELS, (dgated * value * gate * (1.0 - gate)).to(dx_ptr.dtype.element_ty), mask=valid)
        window = reached[UNROLL:]
    to = sums_ptr + (b * tl.num_programs(1) + tl.program_id(1)) * TAPS * CHANNELS + c
    for tap in tl.static_range(TAPS):
        tl.store(to + tap * CHANNELS, dtaps[tap], mask=inside)


#: Of the sliding kernels: channels, frames of an iteration and warps, and frames of a program ("… span"): more would leave multiprocessors
#: idle, fewer would read more frames twice. Of the kernels that hold all channels: elements of a tile, and frames of a program backward.
SIZES: dict[str, Any] = {
    "convolve": (64, 4, 1),
    "convolve span": 64,
    "gate": (32, 4, 1),
    "gate span": 128,
    "norm": 4096,
    "norm backward": 2048,
    "norm span": 32,
}


def sliding(kernel: str) -> dict[str, int]:
    """Launch sizes of a kernel that slides along frames, "convolve" or "gate"."""
    return dict(zip(("BLOCK_C", "UNROLL", "num_warps"), SIZES[kernel], strict=True))


def normalising(channels: int, kernel: str) -> dict[str, int]:
    """Launch sizes of a kernel that holds all channels, "norm" or "norm backward"."""
    block = max(triton.next_power_of_2(channels), 64)
    return {"BLOCK_T": min(max(SIZES[kernel] // block, 1), 16), "BLOCK_C": block, "num_warps": 8 if block > 256 else 4}


def _by_tap(weight: Tensor) -> Tensor:
    """Weights with the channels of a tap side by side, as threads read them."""
    return weight.T.contiguous()


def forward(x: Tensor, weight: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """See ``reference.forward``; all contiguous."""
    return _run(x, None, None, None, weight, bias, gamma, beta, eps)


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
    return _run(x, slots, lengths, state, weight, bias, gamma, beta, eps)[0]


def _run(
    x: Tensor,
    slots: Tensor | None,
    lengths: Tensor | None,
    state: Tensor | None,
    weight: Tensor,
    bias: Tensor,
    gamma: Tensor,
    beta: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Output and what the layer norm got; a step where there are lengths and a state."""
    rows, frames = x.shape[:2]
    channels, taps = weight.shape
    out, convolved = (x.new_empty(rows, frames, channels) for _ in range(2))
    if out.numel():
        tile, span = sliding("convolve"), frames if state is not None else SIZES["convolve span"]
        convolve_kernel[triton.cdiv(channels, tile["BLOCK_C"]), triton.cdiv(frames, span), rows](
            x, _by_tap(weight), bias, convolved, slots, lengths, state, frames, span,
            STEP=state is not None, CHANNELS=channels, TAPS=taps, **tile,
        )  # fmt: skip
        tile = normalising(channels, "norm")
        norm_kernel[triton.cdiv(frames, tile["BLOCK_T"]), rows](
            convolved, gamma, beta, lengths, out, frames, EPS=eps, CHANNELS=channels, **tile
        )
    return out, convolved


def backward(
    grad: Tensor, x: Tensor, convolved: Tensor, weight: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """See ``reference.backward``; all contiguous. Parts are summed in one order: repeats are equal bit for bit."""
    batch, frames = x.shape[:2]
    channels, taps = weight.shape
    wide = torch.promote_types(x.dtype, torch.float32)
    span, gate_span = SIZES["norm span"], SIZES["gate span"]
    spans, gate_spans = triton.cdiv(frames, span), triton.cdiv(frames, gate_span)
    dx, dconvolved = torch.empty_like(x), torch.empty_like(convolved)
    sums = x.new_empty(batch * spans, 3, channels, dtype=wide)
    weight_sums = x.new_empty(batch * gate_spans, taps, channels, dtype=wide)
    if x.numel():
        norm_backward_kernel[spans, batch](
            grad, convolved, gamma, beta, dconvolved, sums, frames, span,
            EPS=eps, CHANNELS=channels, **normalising(channels, "norm backward"),
        )  # fmt: skip
        tile = sliding("gate")
        gate_backward_kernel[triton.cdiv(channels, tile["BLOCK_C"]), gate_spans, batch](
            dconvolved, x, _by_tap(weight), dx, weight_sums, frames, gate_span, CHANNELS=channels, TAPS=taps, **tile
        )
    dbias, dgamma, dbeta = sums.sum(0).unbind()
    dweight = weight_sums.sum(0).T.to(weight.dtype).contiguous()  # as the operator's shape function says: compiled graphs rely on it
    return dx, dweight, dbias.to(bias.dtype), dgamma.to(gamma.dtype), dbeta.to(beta.dtype)
