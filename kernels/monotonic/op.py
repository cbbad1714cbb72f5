"""Expected alignments and soft attention of MoChA, MILk and monotonic multihead attention, with their exact gradients."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from ..library import operator, runs_triton
from . import reference


def _implementation(x: Tensor) -> ModuleType:
    if runs_triton(x):
        from . import triton as kernels

        if x.shape[-1] <= kernels.MAX_FRAMES:
            return kernels
    return reference


def _alignment(p: Tensor) -> tuple[Tensor, Tensor]:
    if not p.numel():
        return _two_like(p)
    return _implementation(p).alignment(p.contiguous())


def _alignment_backward(grad: Tensor, p: Tensor, q: Tensor) -> Tensor:
    if not p.numel():
        return torch.empty_like(q)
    return _implementation(p).alignment_backward(grad.contiguous(), p.contiguous(), q)


def _attention(alpha: Tensor, energy: Tensor, width: int) -> tuple[Tensor, Tensor]:
    if not alpha.numel():
        return _two_like(alpha)
    alpha, energy = alpha.contiguous(), energy.contiguous()
    compute = _implementation(alpha)
    norm = compute.log_normaliser(energy, width)
    return compute.spread(alpha, energy, norm, width), norm


def _attention_backward(grad: Tensor, alpha: Tensor, energy: Tensor, norm: Tensor, beta: Tensor, width: int) -> tuple[Tensor, Tensor]:
    if not alpha.numel():
        return _two_like(grad)
    grad, alpha, energy = grad.contiguous(), alpha.contiguous(), energy.contiguous()
    compute = _implementation(alpha)
    alpha_grad = compute.collect(grad, energy, norm, width)
    return alpha_grad, grad * beta - compute.spread(alpha * alpha_grad, energy, norm, width)


def _save_alignment(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.save_for_backward(*inputs, output[1])
    ctx.mark_non_differentiable(output[1])


def _save_attention(ctx: Any, inputs: Any, output: Any) -> None:
    alpha, energy, ctx.width = inputs
    ctx.save_for_backward(alpha, energy, output[1], output[0])
    ctx.mark_non_differentiable(output[1])


def _two_like(x: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    first, second = (torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(2))
    return first, second


alignment_backward = operator(
    "monotonic_alignment_backward(Tensor grad, Tensor p, Tensor q) -> Tensor",
    _alignment_backward,
    lambda grad, p, q: torch.empty_like(q, memory_format=torch.contiguous_format),
)
alignment = operator(
    "monotonic_alignment(Tensor p) -> (Tensor, Tensor)",
    _alignment,
    _two_like,
    _save_alignment,
    lambda ctx, grad, _: alignment_backward(grad, *ctx.saved_tensors),
)
attention_backward = operator(
    "monotonic_attention_backward(Tensor grad, Tensor alpha, Tensor energy, Tensor norm, Tensor beta, int width) -> (Tensor, Tensor)",
    _attention_backward,
    _two_like,
)
attention = operator(
    "monotonic_attention(Tensor alpha, Tensor energy, int width) -> (Tensor, Tensor)",
    _attention,
    _two_like,
    _save_attention,
    lambda ctx, grad, _: (*attention_backward(grad, *ctx.saved_tensors, ctx.width), None),
)


def expected_alignment(p: Tensor) -> Tensor:
    """Expected alignment α of hard monotonic attention (Raffel et al., 2017), by linear recurrences and without division.

    Label i starts at the frame where label i − 1 stopped, the first one at frame 0, and stops at each frame it comes to
    with probability p; what runs past the last frame attends nowhere, so a row of α sums to at most 1.

    Args:
        p: (…, U, T) probabilities; 0 on padded frames. Half types are computed in float32.

    Returns:
        α (…, U, T), in the dtype of ``p``.
    """
    return alignment(_rows(_wide(p)))[0].reshape(p.shape).to(p.dtype)


def expected_soft_attention(alpha: Tensor, energy: Tensor, width: int | None = None) -> Tensor:
    """Expected soft attention β over the frames before each stopping point.

    β_{i,j} = Σ_{k ≥ j} α_{i,k} exp(u_{i,j}) / Σ_l exp(u_{i,l}), l over the ``width`` frames that end in k, or all up to k.

    Args:
        alpha: (…, U, T) expected alignment.
        energy: (…, U, T) scores u; −inf on padded frames. Half types are computed in float32.
        width: frames in a chunk, for MoChA (Chiu and Raffel, 2018); None for infinite lookback, MILk (Arivazhagan et al., 2019).

    Returns:
        β (…, U, T), in the dtype of ``alpha``; its rows sum to those of α.

    Raises:
        ValueError: ``width`` below 1, or shapes that differ.
    """
    if width is not None and width < 1:
        raise ValueError(f"width is {width}; a chunk has at least 1 frame (None looks back to the start)")
    if alpha.shape != energy.shape:
        raise ValueError(f"alpha {tuple(alpha.shape)} and energy {tuple(energy.shape)} should have one shape")
    dtype = torch.promote_types(_wide(alpha).dtype, energy.dtype)
    return attention(_rows(alpha.to(dtype)), _rows(energy.to(dtype)), width or 0)[0].reshape(alpha.shape).to(alpha.dtype)


def _rows(x: Tensor) -> Tensor:
    return x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:])


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
