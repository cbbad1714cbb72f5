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
def load_gated(at, valid, dtype: tl.constexpr, CHANNELS: tl.constexpr):
    """Gated channels of a frame whose values lie at ``at``, rounded as a stream's state is; and value and open gate."""
    value = tl.load(at, mask=valid, other=0.0).to(dtype)
    gate = 1.0 / (1.0 + tl.exp(-tl.load(at + CHANNELS, mask=valid, other=0.0).to(dtype)))
    return (value * gate).to(at.dtype.element_ty).to(dtype), value, gate


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
    taps = load_taps(weight_ptr, c, inside, dtype, CHANNELS, TAPS)
    bias = tl.load(bias_ptr + c, mask=inside, other=0.0).to(dtype)
    first = tl.program_id(1) * span
    last = tl.minimum(first + span, T)
    x_at = x_ptr + (b * T + first) * 2 * CHANNELS + c
    to = convolved_ptr + (b * T + first) * CHANNELS + c
    window = ()
    if STEP:
        last = tl.load(lengths_ptr + b).to(tl.int32)
        slot = b if slots_ptr is None else tl.load(slots_ptr + b).to(tl.int64)
        state_at = state_ptr + slot * (TAPS - 1) * CHANNELS + c
        for row in tl.static_range(TAPS - 1):
            window = window + (tl.load(state_at + row * CHANNELS, mask=inside & (last > 0), other=0.0).to(dtype),)
        for row in tl.static_range(TAPS - 1):  # all are in registers now
            kept = window[row].to(state_ptr.dtype.element_ty)
            tl.store(state_at - (last - row) * CHANNELS, kept, mask=inside & (last > 0) & (last <= row))
    else:
        for row in tl.static_range(TAPS - 1):
            before = x_at - (TAPS - 1 - row) * 2 * CHANNELS
            window = window + (load_gated(before, inside & (first >= TAPS - 1 - row), dtype, CHANNELS)[0],)
    for start in range(first, last, UNROLL):
        frames = window
        for u in tl.static_range(UNROLL):
            valid = inside & (start + u < last)
            gated = load_gated(x_at + u * 2 * CHANNELS, valid, dtype, CHANNELS)[0]
            frames = frames + (gated,)
            if STEP:
                place = start + u - last + (TAPS - 1)
                tl.store(state_at + place * CHANNELS, gated.to(state_ptr.dtype.element_ty), mask=valid & (place >= 0))
        for u in tl.static_range(UNROLL):
            y = bias
            for tap in tl.static_range(TAPS):
                y += taps[tap] * frames[u + tap]
            tl.store(to + u * CHANNELS, y.to(convolved_ptr.dtype.element_ty), mask=inside & (start + u < last))
        window = frames[UNROLL:]
        x_at += UNROLL * 2 * CHANNELS
        to += UNROLL * CHANNELS


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
    dbias = tl.zeros([BLOCK_T, BLOCK_C], dtype)
    dgamma = tl.zeros([BLOCK_T, BLOCK_C], dtype)
    dbeta = tl.zeros([BLOCK_T, BLOCK_C], dtype)
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
        dbias += dy
        dgamma += dz * unit
        dbeta += dz
    to = sums_ptr + (b * tl.num_programs(0) + tl.program_id(0)) * 3 * CHANNELS + c
    tl.store(to, tl.sum(dbias, 0), mask=inside)
    tl.store(to + CHANNELS, tl.sum(dgamma, 0), mask=inside)
    tl.store(to + 2 * CHANNELS, tl.sum(dbeta, 0), mask=inside)


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
    taps = load_taps(weight_ptr, c, inside, dtype, CHANNELS, TAPS)
    first = tl.program_id(1) * span
    last = tl.minimum(first + span, T)
    x_at = x_ptr + (b * T + first) * 2 * CHANNELS + c
    dx_at = dx_ptr + (b * T + first) * 2 * CHANNELS + c
    dy_at = dconvolved_ptr + (b * T + first) * CHANNELS + c
    dtaps = ()
    for _ in tl.static_range(TAPS):
        dtaps = dtaps + (tl.zeros([BLOCK_C], dtype),)
    window = ()
    for ahead in tl.static_range(TAPS - 1):
        window = window + (tl.load(dy_at + ahead * CHANNELS, mask=inside & (first + ahead < T), other=0.0).to(dtype),)
    for start in range(first, last, UNROLL):
        reached = window
        for ahead in tl.static_range(TAPS - 1, TAPS - 1 + UNROLL):
            reached = reached + (tl.load(dy_at + ahead * CHANNELS, mask=inside & (start + ahead < T), other=0.0).to(dtype),)
        for u in tl.static_range(UNROLL):
            valid = inside & (start + u < last)
            gated, value, gate = load_gated(x_at + u * 2 * CHANNELS, valid, dtype, CHANNELS)
            dgated = tl.zeros([BLOCK_C], dtype)
            sums = ()
            for ahead in tl.static_range(TAPS):  # the newest, which may still be on its way, last
                dgated += taps[TAPS - 1 - ahead] * reached[u + ahead]
                sums = sums + (dtaps[ahead] + gated * reached[u + ahead],)
            dtaps = sums
            tl.store(dx_at + u * 2 * CHANNELS, (dgated * gate).to(dx_ptr.dtype.element_ty), mask=valid)
            dgate = dgated * value * gate * (1.0 - gate)
            tl.store(dx_at + (u * 2 + 1) * CHANNELS, dgate.to(dx_ptr.dtype.element_ty), mask=valid)
        window = reached[UNROLL:]
        x_at += UNROLL * 2 * CHANNELS
        dx_at += UNROLL * 2 * CHANNELS
        dy_at += UNROLL * CHANNELS
    to = sums_ptr + (b * tl.num_programs(1) + tl.program_id(1)) * TAPS * CHANNELS + c
    for ahead in tl.static_range(TAPS):
        tl.store(to + (TAPS - 1 - ahead) * CHANNELS, dtaps[ahead], mask=inside)


#: Of the sliding kernels: channels, frames of an iteration and warps; and frames of a program ("… span"): more would leave multiprocessors
#: idle, fewer would read more frames twice. Of the kernels that hold all channels: frames of a tile and channels of a warp (a row is summed
#: within one where it fits); and frames of a program backward.
SIZES: dict[str, Any] = {
    "convolve": (64, 4, 1),
    "convolve span": 64,
    "gate": (32, 4, 1),
    "gate span": 128,
    "norm": (1, 512),
    "norm backward": (1, 512),
    "norm span": 16,
}


def sliding(kernel: str) -> dict[str, int]:
    """Launch sizes of a kernel that slides along frames, "convolve" or "gate"."""
    return dict(zip(("BLOCK_C", "UNROLL", "num_warps"), SIZES[kernel], strict=True))


def normalising(channels: int, kernel: str) -> dict[str, int]:
    """Launch sizes of a kernel that holds all channels, "norm" or "norm backward"."""
    block = max(triton.next_power_of_2(channels), 64)
    rows, of_a_warp = SIZES[kernel]
    return {"BLOCK_T": rows, "BLOCK_C": block, "num_warps": max(block // of_a_warp, 1)}


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
