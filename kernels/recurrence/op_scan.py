"""Gated scans and moving averages as PyTorch operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..library import operator, runs_triton
from . import reference


def _scan(x: Tensor, gate: Tensor, lengths: Tensor, phase: Tensor | None, state: Tensor | None, chunk: int) -> Tensor:
    if (kernels := _kernels(x)) is None:
        return reference.scan(x, gate, lengths, phase, state, chunk)
    return kernels.scan(_packed(x), _packed(gate), lengths.contiguous(), _contiguous(phase), _contiguous(state), chunk)


def _scan_backward(
    grad: Tensor, gate: Tensor, y: Tensor, lengths: Tensor, phase: Tensor | None, state: Tensor | None, chunk: int
) -> tuple[Tensor, Tensor, Tensor]:
    if (kernels := _kernels(grad)) is None:
        return reference.scan_backward(grad, gate, y, lengths, phase, state, chunk)
    return kernels.scan_backward(_packed(grad), _packed(gate), y, lengths.contiguous(), _contiguous(phase), _contiguous(state), chunk)


def _ema(u: Tensor, decay: Tensor, weight: Tensor, lengths: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    if (kernels := _kernels(u)) is None or decay.shape[1] > kernels.MAX_AVERAGES:
        out, after = reference.ema(u, decay, weight, lengths, state)
        return out, after.clone(memory_format=torch.contiguous_format)
    return kernels.ema(_packed(u), decay.contiguous(), weight.contiguous(), lengths.contiguous(), state.contiguous())


def _ema_backward(
    grad: Tensor, state_grad: Tensor, u: Tensor, decay: Tensor, weight: Tensor, lengths: Tensor, state: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    if (kernels := _kernels(u)) is None or decay.shape[1] > kernels.MAX_AVERAGES:
        du, ddecay, dweight, dstate = reference.ema_backward(grad, state_grad, u, decay, weight, lengths, state)
        return du, ddecay, dweight, dstate.clone(memory_format=torch.contiguous_format)
    parameters = decay.contiguous(), weight.contiguous()
    return kernels.ema_backward(_packed(grad), state_grad.contiguous(), _packed(u), *parameters, lengths.contiguous(), state.contiguous())


def _kernels(x: Tensor) -> Any:
    """The module of kernels, or None where the definition computes."""
    if runs_triton(x) and x.numel():
        from . import triton_scan

        return triton_scan
    return None


def _packed(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _contiguous(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _save_scan(ctx: Any, inputs: Any, output: Any) -> None:
    _, gate, lengths, phase, state, ctx.chunk = inputs
    ctx.save_for_backward(gate, output, lengths, phase, state)


def _differentiate_scan(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    dx, dgate, dstate = scan_backward(grad, *ctx.saved_tensors, ctx.chunk)
    return dx, dgate, None, None, None if ctx.saved_tensors[4] is None else dstate, None


def _save_ema(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate_ema(ctx: Any, grad: Tensor, state_grad: Tensor) -> tuple[Any, ...]:
    du, ddecay, dweight, dstate = ema_backward(grad, state_grad, *ctx.saved_tensors)
    return du, ddecay, dweight, None, dstate


scan_backward = operator(
    "gated_scan_backward(Tensor grad, Tensor gate, Tensor y, Tensor lengths, Tensor? phase, Tensor? state, int chunk)"
    " -> (Tensor, Tensor, Tensor)",
    _scan_backward,
    lambda grad, gate, *_: (_like(grad), _like(gate), grad.new_empty(grad[:, 0].shape, dtype=reference.wide(grad.dtype))),
)
scan = operator(
    "gated_scan(Tensor x, Tensor gate, Tensor lengths, Tensor? phase, Tensor? state, int chunk) -> Tensor",
    _scan,
    lambda x, *_: _like(x),
    _save_scan,
    _differentiate_scan,
)
ema_backward = operator(
    "damped_ema_backward(Tensor grad, Tensor state_grad, Tensor u, Tensor decay, Tensor weight, Tensor lengths, Tensor state)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    _ema_backward,
    lambda grad, state_grad, u, decay, weight, lengths, state: (_like(u), _like(decay), _like(weight), _like(state)),
)
ema = operator(
    "damped_ema(Tensor u, Tensor decay, Tensor weight, Tensor lengths, Tensor state) -> (Tensor, Tensor)",
    _ema,
    lambda u, decay, weight, lengths, state: (_like(u), _like(state)),
    _save_ema,
    _differentiate_ema,
)


def gated_scan(
    x: Tensor,
    gate: Tensor,
    lengths: Tensor,
    chunk: int | None = None,
    *,
    state: Tensor | None = None,
    phase: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Linear recurrence y_t = gate_t · y_{t−1} + x_t of each channel by itself, which may begin anew in every chunk.

    Gradients reach x, gate and state.

    Args:
        x: (B, T, D).
        gate: (B, T, D), usually in [0, 1].
        lengths: (B,) frames of each input; what lies beyond is not read.
        chunk: frames after which y begins from 0 again; None for never.
        state: (B, D) y of the frame before the first, float32 (float64 for float64); None for 0.
        phase: (B,) with a chunk and a state, the frames of the current chunk that came before; a row with 0 begins a chunk.

    Returns:
        y (B, T, D), 0 beyond a length; and y after the last frame, the ``state`` of the frames that follow.

    Raises:
        ValueError: shapes that do not belong together, or a state inside chunks without its phase.
    """
    if x.dim() != 3 or gate.shape != x.shape:
        raise ValueError(f"x {tuple(x.shape)} and gate {tuple(gate.shape)} should have one shape (B, T, D)")
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1 frame, not {chunk}")
    if (phase is None) != (state is None or chunk is None):
        raise ValueError("a state inside chunks needs a phase, and nothing else has one: give state and phase together, with a chunk")
    dtype = reference.wide(x.dtype)
    state = None if state is None else state.to(dtype)
    y = scan(x, gate, lengths, phase, state, max(x.shape[1], 1) if chunk is None else chunk)
    before = x.new_zeros(x.shape[0], 1, x.shape[2], dtype=dtype) if state is None else state[:, None]
    last = lengths[:, None, None].long().expand(-1, 1, x.shape[2])
    return y, torch.cat([before, y.to(dtype)], 1).gather(1, last)[:, 0]


def damped_ema(u: Tensor, decay: Tensor, weight: Tensor, lengths: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Multi-dimensional damped moving average (Ma et al., "Mega", 2023): N averages of each channel, and their weighted sum.

    y_t = decay · y_{t−1} + u_t and out_t = Σ_n weight_n · y_{t,n}. Mega's parameters give decay = 1 − α·δ and weight = α·β·η.
    Gradients reach u, decay, weight and state, and are equal bit for bit in every run.

    Args:
        u: (B, T, D).
        decay: (D, N) in [0, 1].
        weight: (D, N).
        lengths: (B,) frames of each input; what lies beyond is not read.
        state: (B, D, N) y of the frame before the first, float32 (float64 for float64); None for zeros.

    Returns:
        out (B, T, D), 0 beyond a length; and y after the last frame.

    Raises:
        ValueError: shapes that do not belong together.
    """
    size = (len(u), *decay.shape)
    if u.dim() != 3 or decay.shape != weight.shape or decay.dim() != 2 or decay.shape[0] != u.shape[2]:
        raise ValueError(
            f"u {tuple(u.shape)}, decay {tuple(decay.shape)} and weight {tuple(weight.shape)} should be (B, T, D) and twice (D, N)"
        )
    if state is not None and state.shape != size:
        raise ValueError(f"state {tuple(state.shape)} should be {size}")
    dtype = reference.wide(u.dtype)
    return ema(u, decay, weight, lengths, u.new_zeros(size, dtype=dtype) if state is None else state.to(dtype))
