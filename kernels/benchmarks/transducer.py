"""Transducer cases: full loss, joiner included, lattice alone, pruned."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ..transducer import get_rnnt_prune_ranges, joint_rnnt_loss, reference, rnnt_loss, rnnt_loss_pruned, rnnt_loss_simple
from ..transducer.op import lattice
from .case import Case, upstream, with_gradients

B, T, U, V, J, R = 32, 400, 128, 500, 512, 5
JOINT_V = 1024


def _lengths(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    targets = torch.randint(1, V, (B, U), generator=generator, device="cuda")
    frames = torch.randint(T * 3 // 4, T + 1, (B,), generator=generator, device="cuda")
    labels = torch.randint(U // 2, U + 1, (B,), generator=generator, device="cuda")
    frames[0], labels[0] = T, U  # torchaudio asks that the longest utterance fills the tensor
    return targets, frames, labels


def _random(seed: int) -> torch.Generator:
    return torch.Generator("cuda").manual_seed(seed)


def _full_inputs(seed: int) -> tuple[Any, ...]:
    generator = _random(seed)
    return torch.randn(B, T, U + 1, V, device="cuda", generator=generator), *_lengths(generator)


def _full(logits: Tensor, targets: Tensor, frames: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    return with_gradients(lambda x: rnnt_loss(x, targets, frames, labels, reduction="none"), logits)


def _definition(logits: Tensor, targets: Tensor, frames: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    label, blank, norm = reference.arcs(logits, targets, None, frames, labels, 0)
    total, label_count, blank_count = reference.lattice(label, blank, frames, labels)
    scale = -upstream(total.shape, total.dtype)[:, None, None]
    return -total, reference.arcs_backward(scale * label_count, scale * blank_count, logits, norm, targets, None, frames, labels, 0)


def _torchaudio(logits: Tensor, targets: Tensor, frames: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    import torchaudio

    lengths = targets.int(), frames.int(), labels.int()
    return with_gradients(lambda x: torchaudio.functional.rnnt_loss(x, *lengths, 0, reduction="none"), logits)


def _joint_inputs(seed: int) -> tuple[Any, ...]:
    generator = _random(seed)
    shapes = (B, T, J), (B, U + 1, J), (JOINT_V, J), (JOINT_V,)
    scales = 1.0, 1.0, math.sqrt(1 / J), 0.1
    parts = (s * torch.randn(shape, device="cuda", generator=generator) for s, shape in zip(scales, shapes, strict=True))
    return *(x.bfloat16() for x in parts), *_lengths(generator)


def _joint(*arguments: Any) -> tuple[Tensor, ...]:
    *parts, targets, frames, labels = arguments

    def loss(encoder: Tensor, predictor: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return joint_rnnt_loss(encoder, predictor, weight, bias, targets, frames, labels, reduction="none")

    return with_gradients(loss, *parts)


def _joint_torchaudio(
    encoder: Tensor, predictor: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, frames: Tensor, labels: Tensor
) -> tuple[Tensor, ...]:
    import torchaudio

    def loss(*x: Tensor) -> Tensor:
        logits = torch.nn.functional.linear(torch.tanh(x[0][:, :, None] + x[1][:, None]), x[2], x[3]).float()
        return torchaudio.functional.rnnt_loss(logits, targets.int(), frames.int(), labels.int(), 0, reduction="none")

    return with_gradients(loss, encoder, predictor, weight, bias)


def _materialised(
    encoder: Tensor, predictor: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, frames: Tensor, labels: Tensor
) -> Tensor:
    logits = torch.nn.functional.linear(torch.tanh(encoder[:, :, None] + predictor[:, None]), weight, bias)
    return rnnt_loss(logits, targets, frames, labels, reduction="none")


def _joint_definition(*arguments: Any) -> tuple[Tensor, ...]:
    """The loss of the whole joiner output, one utterance at a time: in float64 a batch of them would not fit."""
    parts, (targets, frames, labels) = [x.detach().requires_grad_() for x in arguments[:4]], arguments[4:]
    encoder, predictor, weight, bias = parts
    scale = upstream(frames.shape, encoder.dtype)
    values, gradients = [], [torch.zeros_like(x) for x in parts]
    for i in range(len(targets)):
        one = slice(i, i + 1)
        value = _materialised(encoder[one], predictor[one], weight, bias, targets[one], frames[one], labels[one])
        values.append(value.detach())
        for total, grad in zip(gradients, torch.autograd.grad(value, parts, scale[one]), strict=True):
            total += grad
    return torch.cat(values), *gradients


def _lattice_inputs(seed: int) -> tuple[Any, ...]:
    generator = _random(seed)
    label, blank = (-3 * torch.rand(B, height, T, device="cuda", generator=generator) for height in (U, U + 1))
    return label, blank, *_lengths(generator)[1:]


def _pruned_inputs(seed: int) -> tuple[Any, ...]:
    generator = _random(seed)
    targets, frames, labels = _lengths(generator)
    boundary = torch.stack([0 * labels, 0 * labels, labels, frames], 1)
    lm, am = (torch.randn(B, size, V, device="cuda", generator=generator) for size in (U + 1, T))
    _, (px_grad, py_grad) = rnnt_loss_simple(lm, am, targets, 0, boundary, return_grad=True)
    ranges = get_rnnt_prune_ranges(px_grad, py_grad, boundary, R)
    return torch.randn(B, T, R, V, device="cuda", generator=generator), targets, ranges, boundary


def _pruned(logits: Tensor, targets: Tensor, ranges: Tensor, boundary: Tensor) -> tuple[Tensor, ...]:
    return with_gradients(lambda x: rnnt_loss_pruned(x, targets, ranges, 0, boundary, reduction="none"), logits)


def _pruned_definition(logits: Tensor, targets: Tensor, ranges: Tensor, boundary: Tensor) -> tuple[Tensor, Tensor]:
    frames, labels, first = boundary[:, 3], boundary[:, 2], ranges[..., 0]
    label, blank, norm = reference.arcs(logits, targets, first, frames, labels, 0)
    total, label_count, blank_count = reference.lattice(label, blank, frames, labels)
    scale = -upstream(total.shape, total.dtype)[:, None, None]
    return -total, reference.arcs_backward(scale * label_count, scale * blank_count, logits, norm, targets, first, frames, labels, 0)


def _joint_flops(
    encoder: Tensor, predictor: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, frames: Tensor, labels: Tensor
) -> float:
    """The joiner's product and those of its two gradients, for the cells that are real."""
    return 3 * 2.0 * float((frames * (labels + 1)).sum()) * weight.numel()


SHAPE = f"B{B} T{T} U{U}"
CASES = [
    Case(
        "transducer", "rnnt_loss, gradient", f"{SHAPE} V{V}", _full_inputs, _definition, _full,
        lambda logits, *_: 3 * logits.nbytes, {"torchaudio": _torchaudio},
    ),
    Case(
        "transducer", "joint_rnnt_loss, gradient", f"{SHAPE} V{JOINT_V} J{J} bf16", _joint_inputs, _joint_definition, _joint,
        lambda encoder, predictor, weight, *_: 2 * (encoder.nbytes + predictor.nbytes + weight.nbytes),
        {"torch joiner + torchaudio": _joint_torchaudio}, _joint_flops, tolerance=2e-2,
    ),
    Case(
        "transducer", "lattice", SHAPE, _lattice_inputs, reference.lattice, lambda *x: lattice(*x, 0.0),
        lambda label, blank, *_: 2 * (label.nbytes + blank.nbytes), {"torch, a diagonal at a time": reference.lattice},
    ),
    Case(
        "transducer", "rnnt_loss_pruned, gradient", f"B{B} T{T} R{R} V{V}", _pruned_inputs, _pruned_definition, _pruned,
        lambda logits, *_: 3 * logits.nbytes, {"torch": _pruned_definition},
    ),
]  # fmt: skip
