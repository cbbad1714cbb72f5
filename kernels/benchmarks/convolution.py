"""Convolution module cases: whole inputs with gradients, and a step of many streams."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..convolution import reference
from ..convolution import triton as kernels
from ..convolution.op import convolution, convolution_step
from .case import Case, Replayed, Tuning, upstream, with_gradients

B, T, C, K, STREAMS, FRAMES = 32, 512, 512, 31, 512, 8
EPS = 1e-5


def _random(seed: int, *shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator("cuda").manual_seed(seed)
    return [torch.randn(shape, device="cuda", generator=generator).bfloat16() for shape in shapes]


def _inputs(seed: int) -> tuple[Any, ...]:
    return tuple(_random(seed, (B, T, 2 * C), (C, 1, K), (C,), (C,), (C,)))


def _ours(*tensors: Tensor) -> tuple[Tensor, ...]:
    return with_gradients(lambda x, weight, *vectors: convolution(x, weight[:, 0], *vectors, EPS)[0], *tensors)


def _definition(x: Tensor, weight: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor) -> tuple[Tensor, ...]:
    y, convolved = reference.forward(x, weight[:, 0], bias, gamma, beta, EPS)
    grad = upstream(y.shape, y.dtype)
    dx, dweight, *vectors = reference.backward(grad, x, convolved, weight[:, 0], bias, gamma, beta, EPS)
    return y, dx, dweight[:, None], *vectors


def _chain(x: Tensor, weight: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    gated = F.pad(F.glu(x), (0, 0, K - 1, 0))
    return _after(gated, weight, bias, gamma, beta)


def _after(window: Tensor, weight: Tensor, bias: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    y = F.conv1d(window.transpose(1, 2), weight, bias, groups=C).transpose(1, 2)
    return F.silu(F.layer_norm(y, (C,), gamma, beta, EPS))


def _peer(*tensors: Tensor) -> tuple[Tensor, ...]:
    return with_gradients(_chain, *tensors)


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function, dynamic=False)


def _peer_compiled(*tensors: Tensor) -> tuple[Tensor, ...]:
    return with_gradients(_compiled(_chain), *tensors)


def _step_inputs(seed: int) -> tuple[Any, ...]:
    x, state, weight, *vectors = _random(seed, (STREAMS, FRAMES, 2 * C), (STREAMS, K - 1, C), (C, 1, K), (C,), (C,), (C,))
    slots = torch.arange(STREAMS, device="cuda")
    return x, slots, torch.full_like(slots, FRAMES), state, weight, *vectors


def _step(x: Tensor, slots: Tensor, lengths: Tensor, state: Tensor, weight: Tensor, *vectors: Tensor) -> tuple[Tensor, Tensor]:
    state = state.clone()  # so that a run finds what the one before found; the peer makes a new one too
    bias, gamma, beta = vectors
    return convolution_step(x, slots, lengths, state, weight[:, 0], bias, gamma, beta, EPS), state


def _step_definition(x: Tensor, slots: Tensor, lengths: Tensor, state: Tensor, weight: Tensor, *vectors: Tensor) -> tuple[Tensor, Tensor]:
    state = state.clone()
    bias, gamma, beta = vectors
    return reference.step(x, slots, lengths, state, weight[:, 0], bias, gamma, beta, EPS), state


def _step_chain(x: Tensor, slots: Tensor, lengths: Tensor, state: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
    window = torch.cat([state, F.glu(x)], 1)
    index = (lengths[:, None] + torch.arange(K - 1, device=x.device))[..., None].expand(-1, -1, C)
    weight, bias, gamma, beta = parameters
    return _after(window, weight, bias, gamma, beta), window.gather(1, index)


CASES = [
    Case(
        "convolution", "whole, gradients", f"B{B} T{T} C{C} K{K} bf16", _inputs, _definition, _ours,
        lambda x, *_: 9 * x.nbytes // 2, {"cuDNN chain": _peer, "compiled chain": _peer_compiled}, tolerance=2e-2,
    ),
    Case(
        "convolution", "step, state copied, in a CUDA graph", f"S{STREAMS} C'{FRAMES} C{C} K{K} bf16",
        _step_inputs, _step_definition, Replayed(_step),
        lambda x, slots, lengths, state, *_: x.nbytes * 3 // 2 + 2 * state.nbytes, {"cuDNN chain": Replayed(_step_chain)}, tolerance=2e-2,
    ),
]  # fmt: skip

NORMS = ((1, 256), (2, 256), (1, 128), (2, 128), (4, 128))
TUNINGS = [
    Tuning("convolve", CASES[0], kernels.SIZES, "convolve", ((32, 4, 1), (32, 8, 1), (64, 8, 1), (128, 4, 2), (64, 4, 2))),
    Tuning("convolve span", CASES[0], kernels.SIZES, "convolve span", (32, 128, 256)),
    Tuning("gate", CASES[0], kernels.SIZES, "gate", ((32, 2, 1), (32, 8, 1), (64, 4, 2), (64, 4, 1), (128, 4, 4))),
    Tuning("gate span", CASES[0], kernels.SIZES, "gate span", (64, 96, 176, 256)),
    Tuning("norm", CASES[0], kernels.SIZES, "norm", NORMS),
    Tuning("norm backward", CASES[0], kernels.SIZES, "norm backward", NORMS),
    Tuning("norm span", CASES[0], kernels.SIZES, "norm span", (8, 32, 64)),
    Tuning("step", CASES[1], kernels.SIZES, "convolve", ((32, 4, 1), (32, 8, 1), (64, 8, 1), (128, 8, 2))),
    Tuning("step, norm", CASES[1], kernels.SIZES, "norm", NORMS),
]
