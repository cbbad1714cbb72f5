"""The parts of a transducer loss as PyTorch operators: arcs from logits or from a joiner run in tiles, and the lattice over them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..library import operator, runs_triton
from . import reference


def _arcs(
    logits: Tensor, targets: Tensor, first: Tensor | None, frames: Tensor, labels: Tensor, blank: int
) -> tuple[Tensor, Tensor, Tensor]:
    if not runs_triton(logits):
        return reference.arcs(logits, targets, first, frames, labels, blank)
    from . import triton as kernels

    first = None if first is None else first.contiguous()
    return kernels.arcs(logits.contiguous(), targets.contiguous(), first, frames.contiguous(), labels.contiguous(), blank)


def _arcs_backward(
    label_grad: Tensor,
    blank_grad: Tensor,
    logits: Tensor,
    norm: Tensor,
    targets: Tensor,
    first: Tensor | None,
    frames: Tensor,
    labels: Tensor,
    blank: int,
    in_place: bool = False,
) -> Tensor:
    if not runs_triton(logits):
        return reference.arcs_backward(label_grad, blank_grad, logits, norm, targets, first, frames, labels, blank)
    from . import triton as kernels

    label_grad, blank_grad = label_grad.contiguous(), blank_grad.contiguous()  # what sum() hands down has stride 0
    first = None if first is None else first.contiguous()
    logits, norm, targets, frames, labels = (x.contiguous() for x in (logits, norm, targets, frames, labels))
    return kernels.arcs_backward(label_grad, blank_grad, logits, norm, targets, first, frames, labels, blank, in_place)


def _lattice(label: Tensor, blank: Tensor, frames: Tensor, labels: Tensor, fastemit: float) -> tuple[Tensor, Tensor, Tensor]:
    if runs_triton(label):
        from . import triton as kernels

        if label.shape[1] <= kernels.MAX_LABELS:
            return kernels.lattice(label.contiguous(), blank.contiguous(), frames.contiguous(), labels.contiguous())
    return reference.lattice(label, blank, frames, labels)


def _joint_arcs(
    encoder: Tensor,
    predictor: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    frames: Tensor,
    labels: Tensor,
    blank: int,
    activation: str,
    tile: int,
) -> tuple[Tensor, Tensor, Tensor]:
    label, blank_score, norm = _arcs_like(encoder, targets, encoder.shape[1], targets.shape[1] + 1)
    weight, bias = _aligned(weight, bias)
    encoder, predictor = encoder.contiguous(), predictor.contiguous()
    for start in range(0, encoder.shape[1], tile):
        part = slice(start, start + tile)
        logits = F.linear(_join(encoder[:, part], predictor, activation), weight, bias)
        label[:, :, part], blank_score[:, :, part], norm[:, part] = _arcs(logits, targets, None, frames - start, labels, blank)
    return label, blank_score, norm


def _joint_arcs_backward(
    label_grad: Tensor,
    blank_grad: Tensor,
    encoder: Tensor,
    predictor: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    norm: Tensor,
    targets: Tensor,
    frames: Tensor,
    labels: Tensor,
    blank: int,
    activation: str,
    tile: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    vocabulary = len(weight)
    weight, bias = _aligned(weight, bias)
    encoder, predictor = encoder.contiguous(), predictor.contiguous()
    encoder_grad = torch.empty_like(encoder)
    predictor_grad, weight_grad, bias_grad = (x.new_zeros(x.shape, dtype=norm.dtype) for x in (predictor, weight, weight[:, 0]))
    for start in range(0, encoder.shape[1], tile):
        part = slice(start, start + tile)
        hidden = _join(encoder[:, part], predictor, activation)
        logits = F.linear(hidden, weight, bias)
        logits_grad = _arcs_backward(
            label_grad[:, :, part],
            blank_grad[:, :, part],
            logits,
            norm[:, part],
            targets,
            None,
            frames - start,
            labels,
            blank,
            in_place=True,
        )
        rows = logits_grad.flatten(0, 2)
        weight_grad += rows.T @ hidden.flatten(0, 2)
        bias_grad += rows.sum(0, dtype=norm.dtype)
        encoder_grad[:, part], predictor_part = _join_backward(logits_grad @ weight, hidden, activation)
        predictor_grad += predictor_part
    weight_grad, bias_grad = (x[:vocabulary].to(weight.dtype) for x in (weight_grad, bias_grad))
    return encoder_grad, predictor_grad.to(predictor.dtype), weight_grad, bias_grad


def _aligned(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """In half precision, widen the vocabulary by impossible entries to a multiple of 64: products of odd widths are slow."""
    short = -len(weight) % 64
    if weight.element_size() > 2 or not short:
        return weight, bias
    bias = weight.new_zeros(len(weight)) if bias is None else bias
    return F.pad(weight, (0, 0, 0, short)), F.pad(bias, (0, short), value=float("-inf"))


def _join(encoder: Tensor, predictor: Tensor, activation: str) -> Tensor:
    if not runs_triton(encoder):
        return reference.join(encoder, predictor, activation)
    from . import triton_joiner

    return triton_joiner.join(encoder, predictor, activation)


def _join_backward(grad: Tensor, hidden: Tensor, activation: str) -> tuple[Tensor, Tensor]:
    if not runs_triton(hidden):
        return reference.join_backward(grad, hidden, activation)
    from . import triton_joiner

    return triton_joiner.join_backward(grad, hidden, activation)


def _arcs_like(x: Tensor, targets: Tensor, frames: int, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    batch, labels = targets.shape
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    shapes = (batch, labels, frames), (batch, labels + 1, frames), (batch, frames, rows)
    label, blank, norm = (x.new_empty(shape, dtype=dtype) for shape in shapes)
    return label, blank, norm


def _save_arcs(ctx: Any, inputs: Any, output: Any) -> None:
    logits, targets, first, frames, labels, ctx.blank = inputs
    ctx.save_for_backward(logits, output[2], targets, first, frames, labels)
    ctx.mark_non_differentiable(output[2])


def _save_joint(ctx: Any, inputs: Any, output: Any) -> None:
    *tensors, ctx.blank, ctx.activation, ctx.tile = inputs
    ctx.save_for_backward(*tensors, output[2])
    ctx.mark_non_differentiable(output[2])


def _backward_joint(ctx: Any, label_grad: Tensor, blank_grad: Tensor, _: Any) -> tuple[Any, ...]:
    encoder, predictor, weight, bias, targets, frames, labels, norm = ctx.saved_tensors
    *gradients, bias_grad = joint_arcs_backward(
        label_grad, blank_grad, encoder, predictor, weight, bias, norm, targets, frames, labels, ctx.blank, ctx.activation, ctx.tile
    )
    return *gradients, None if bias is None else bias_grad, *[None] * 6


def _save_lattice(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.fastemit = inputs[4]
    ctx.save_for_backward(*output[1:])
    ctx.mark_non_differentiable(*output[1:])


def _backward_lattice(ctx: Any, grad: Tensor, _: Any, __: Any) -> tuple[Any, ...]:
    label_count, blank_count = ctx.saved_tensors
    grad = grad[:, None, None]
    return grad * (1 + ctx.fastemit) * label_count, grad * blank_count, None, None, None


arcs_backward = operator(
    "transducer_arcs_backward(Tensor label_grad, Tensor blank_grad, Tensor logits, Tensor norm, Tensor targets, Tensor? first,"
    " Tensor frames, Tensor labels, int blank) -> Tensor",
    _arcs_backward,
    lambda label_grad, blank_grad, logits, *_: torch.empty_like(logits, memory_format=torch.contiguous_format),
)
arcs = operator(
    "transducer_arcs(Tensor logits, Tensor targets, Tensor? first, Tensor frames, Tensor labels, int blank) -> (Tensor, Tensor, Tensor)",
    _arcs,
    lambda logits, targets, *_: _arcs_like(logits, targets, *logits.shape[1:3]),
    _save_arcs,
    lambda ctx, label, blank, _: (arcs_backward(label, blank, *ctx.saved_tensors, ctx.blank), *[None] * 5),
)
joint_arcs_backward = operator(
    "transducer_joint_arcs_backward(Tensor label_grad, Tensor blank_grad, Tensor encoder, Tensor predictor, Tensor weight, Tensor? bias,"
    " Tensor norm, Tensor targets, Tensor frames, Tensor labels, int blank, str activation, int tile) -> (Tensor, Tensor, Tensor, Tensor)",
    _joint_arcs_backward,
    lambda label_grad, blank_grad, encoder, predictor, weight, *_: tuple(
        x.new_empty(x.shape) for x in (encoder, predictor, weight, weight[:, 0])
    ),
)
joint_arcs = operator(
    "transducer_joint_arcs(Tensor encoder, Tensor predictor, Tensor weight, Tensor? bias, Tensor targets, Tensor frames, Tensor labels,"
    " int blank, str activation, int tile) -> (Tensor, Tensor, Tensor)",
    _joint_arcs,
    lambda encoder, predictor, weight, bias, targets, *_: _arcs_like(encoder, targets, encoder.shape[1], targets.shape[1] + 1),
    _save_joint,
    _backward_joint,
)
lattice = operator(
    "transducer_lattice(Tensor label, Tensor blank, Tensor frames, Tensor labels, float fastemit) -> (Tensor, Tensor, Tensor)",
    _lattice,
    lambda label, blank, *_: (
        blank.new_empty(len(blank)),
        *(torch.empty_like(x, memory_format=torch.contiguous_format) for x in (label, blank)),
    ),
    _save_lattice,
    _backward_lattice,
)
