"""The middle of a causal convolution module as PyTorch operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..dispatch import prefers_triton, streams
from ..library import operator, runs_triton
from . import reference, stack

#: More channels, or taps, take PyTorch's layers.
MAX_CHANNELS, MAX_TAPS = 2048, 31


def _runs_kernel(x: Tensor, channels: int, taps: int) -> bool:
    return runs_triton(x) and channels <= MAX_CHANNELS and taps <= MAX_TAPS


def _by_torch(x: Tensor, weight: Tensor, operator: str, shape: str) -> bool:
    """Whether PyTorch's own layers are the better."""
    return not (_runs_kernel(x, len(weight), weight.shape[2]) and prefers_triton(operator, shape))


def _implementation(x: Tensor, weight: Tensor) -> Any:
    """The kernels where they can run, else the definition."""
    if _runs_kernel(x, *weight.shape):
        from . import triton as kernels

        return kernels
    return reference


def _forward(x: Tensor, weight: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Any:
    tensors = (t.contiguous() for t in (x, weight, bias, gamma, beta))
    return _implementation(x, weight).forward(*tensors, eps)


def _step(
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
    implementation = _implementation(x, weight) if state.is_contiguous() else reference
    slots = slots if slots is None else slots.contiguous()
    x, lengths, weight, bias, gamma, beta = (t.contiguous() for t in (x, lengths, weight, bias, gamma, beta))
    return implementation.step(x, slots, lengths, state, weight, bias, gamma, beta, eps)


def _backward(grad: Tensor, x: Tensor, convolved: Tensor, weight: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Any:
    tensors = (t.contiguous() for t in (grad, x, convolved, weight, bias, gamma, beta))
    return _implementation(x, weight).backward(*tensors, eps)


def _save(ctx: Any, inputs: Any, output: Any) -> None:
    x, *parameters, ctx.eps = inputs
    ctx.save_for_backward(x, output[1], *parameters)
    ctx.mark_non_differentiable(output[1])


def _like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _half(x: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:2], x.shape[2] // 2))


convolution_backward = operator(
    "convolution_backward(Tensor grad, Tensor x, Tensor convolved, Tensor weight, Tensor bias, Tensor gamma, Tensor beta, float eps)"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    _backward,
    lambda grad, x, convolved, weight, bias, gamma, beta, eps: tuple(map(_like, (x, weight, bias, gamma, beta))),
)
convolution = operator(
    "convolution(Tensor x, Tensor weight, Tensor bias, Tensor gamma, Tensor beta, float eps) -> (Tensor, Tensor)",
    _forward,
    lambda x, *_: (_half(x), _half(x)),
    _save,
    lambda ctx, grad, _: (*convolution_backward(grad, *ctx.saved_tensors, ctx.eps), None),
)
convolution_step = operator(
    "convolution_step(Tensor x, Tensor? slots, Tensor lengths, Tensor(a!) state, Tensor weight, Tensor bias, Tensor gamma, Tensor beta,"
    " float eps) -> Tensor",
    _step,
    lambda x, *_: _half(x),
)


def causal_convolution(x: Tensor, weight: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-5) -> Tensor:
    """SiLU(LayerNorm(DepthwiseConv(GLU(x)))) over the past only: the middle of a Conformer's convolution module (Gulati et al., 2020).

    Args:
        x: (B, T, 2C), values then gates; what stands before the first frame is zero.
        weight: (C, 1, K) of the depthwise convolution, tap K − 1 on the frame itself.
        bias: (C,) of the convolution.
        gamma: (C,) weight of the layer norm over channels.
        beta: (C,) bias of the layer norm.
        eps: of the layer norm.

    Returns:
        (B, T, C), in the dtype of ``x``; half types are summed in float32. Gradients reach all five tensors, and from the kernels
        are equal bit for bit in every run.

    Raises:
        ValueError: shapes that do not belong together.
    """
    _check(x, weight, bias, gamma, beta)
    if _by_torch(x, weight, "convolution", "whole"):
        return stack.forward(x, weight, bias, gamma, beta, eps)
    return convolution(x, weight[:, 0], bias, gamma, beta, eps)[0]


def causal_convolution_step(
    x: Tensor,
    slots: Tensor | None,
    lengths: Tensor,
    state: Tensor,
    weight: Tensor,
    bias: Tensor,
    gamma: Tensor,
    beta: Tensor,
    eps: float = 1e-5,
) -> Tensor:
    """``causal_convolution`` for one step of many live streams; brings their state up to date. No gradient from the kernel.

    Args:
        x: (S, C', 2C): rows of up to C' frames, one row a stream.
        slots: (S,) state slot of each row; no two rows with frames share one. None: row s has slot s.
        lengths: (S,) frames of each row; a row of length 0 leaves its slot as it is, bit for bit.
        state: (slots, K − 1, C) in the dtype of ``x``, the last gated frames of each stream, changed in place; zeros for a stream
            that begins.
        weight: (C, 1, K), as for ``causal_convolution``, and so the arguments after it.
        bias: (C,).
        gamma: (C,).
        beta: (C,).
        eps: of the layer norm.

    Returns:
        (S, C', C); 0 beyond a row's length.

    Raises:
        ValueError: shapes that do not belong together.
    """
    _check(x, weight, bias, gamma, beta)
    if state.shape[1:] != (weight.shape[2] - 1, len(weight)) or state.dtype != x.dtype:
        wanted = f"(slots, {weight.shape[2] - 1}, {len(weight)}) {x.dtype}"
        raise ValueError(f"state {tuple(state.shape)} {state.dtype} should be {wanted}")
    if _by_torch(x, weight, "convolution_step", streams(len(x))):
        return stack.step(x, slots, lengths, state, weight, bias, gamma, beta, eps)
    return convolution_step(x, slots, lengths, state, weight[:, 0], bias, gamma, beta, eps)


def _check(x: Tensor, weight: Tensor, *vectors: Tensor) -> None:
    channels = len(weight)
    if x.dim() != 3 or x.shape[2] != 2 * channels or weight.dim() != 3 or weight.shape[1] != 1:
        raise ValueError(f"x {tuple(x.shape)} and weight {tuple(weight.shape)} should be (B, T, 2C) and (C, 1, K)")
    if any(vector.shape != (channels,) for vector in vectors):
        raise ValueError(f"bias, gamma and beta {[tuple(v.shape) for v in vectors]} should each be ({channels},)")
