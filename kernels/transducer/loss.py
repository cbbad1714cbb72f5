"""Transducer losses: over all logits, and over a joiner whose output never exists whole."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from .op import arcs, joint_arcs, lattice

Reduction = Literal["none", "mean", "sum"]
Activation = Literal["tanh", "relu"]

#: Logits that ``joint_rnnt_loss`` holds at a time: 128 MiB in half precision. Smaller tiles keep the GPU waiting for launches.
TILE_ELEMENTS = 2**26


def reduce(cost: Tensor, reduction: Reduction) -> Tensor:
    """The cost of each utterance (B,), their sum, or their mean over the batch (0 for an empty batch)."""
    if reduction == "none":
        return cost
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction is {reduction!r}; choose none, mean or sum")
    return cost.sum() / max(len(cost), 1) if reduction == "mean" else cost.sum()


def bounded(lengths: Tensor, limit: int, name: str, device: torch.device) -> Tensor:
    """Lengths (B,) no greater than ``limit``, on ``device``: an error on the CPU, clamped where a check would wait for a GPU."""
    if lengths.device.type == "cpu" and not torch.compiler.is_compiling() and lengths.numel() and int(lengths.max()) > limit:
        raise ValueError(f"{name} holds {int(lengths.max())}, but the tensor has room for {limit}")
    return lengths.to(device).clamp(0, limit)


def rnnt_loss(
    logits: Tensor,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    blank: int = 0,
    reduction: Reduction = "mean",
    fastemit: float = 0.0,
) -> Tensor:
    """Transducer loss −log P(targets | frames) (Graves, 2012) over the whole joiner output.

    Every utterance with a frame has a finite loss, also with more labels than frames (several labels may be written on
    one frame) or none. An utterance without frames costs 0 if it has no labels, and infinity, with zero gradient, if it has.

    Args:
        logits: (B, T, U + 1, V) joiner output before the softmax; any float dtype, summed in float32 (float64 for float64).
        targets: (B, U) labels; padding is ignored.
        logit_lengths: (B,) frames of each utterance.
        target_lengths: (B,) labels of each utterance.
        blank: index of blank; negative counts from the end.
        reduction: "none" (B,), "mean" over the batch, or "sum".
        fastemit: λ of FastEmit (Yu et al., 2021): the gradient through label arcs is scaled by 1 + λ; the value is not.

    Raises:
        ValueError: shapes that do not belong together, or (on the CPU) lengths beyond the tensors.
    """
    if logits.dim() != 4 or targets.dim() != 2 or (logits.shape[0], logits.shape[2] - 1) != tuple(targets.shape):
        raise ValueError(f"logits {tuple(logits.shape)} and targets {tuple(targets.shape)} should be (B, T, U + 1, V) and (B, U)")
    frames = bounded(logit_lengths, logits.shape[1], "logit_lengths", logits.device)
    labels = bounded(target_lengths, targets.shape[1], "target_lengths", logits.device)
    label, blank_score, _ = arcs(logits, targets, None, frames, labels, blank % logits.shape[-1])
    return reduce(-lattice(label, blank_score, frames, labels, fastemit)[0], reduction)


def joint_rnnt_loss(
    encoder: Tensor,
    predictor: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    logit_lengths: Tensor,
    target_lengths: Tensor,
    activation: Activation = "tanh",
    blank: int = 0,
    reduction: Reduction = "mean",
    fastemit: float = 0.0,
    tile: int | None = None,
) -> Tensor:
    """``rnnt_loss`` of the joiner ``activation(encoder + predictor) @ weight.T + bias``, in a fraction of its memory.

    The logits exist only for ``tile`` frames at a time, and are computed again for the gradient. Under autocast the
    joiner runs in the autocast dtype.

    Args:
        encoder: (B, T, J), projected to the joiner's width.
        predictor: (B, U + 1, J), likewise.
        weight: (V, J) of the joiner's output layer.
        bias: (V,) or None.
        targets: (B, U), as for ``rnnt_loss``, and so the arguments after it.
        logit_lengths: (B,).
        target_lengths: (B,).
        activation: "tanh" or "relu".
        blank: index of blank.
        reduction: "none", "mean" or "sum".
        fastemit: λ of FastEmit.
        tile: frames at a time; by default what keeps the logits of a tile under TILE_ELEMENTS.

    Raises:
        ValueError: as for ``rnnt_loss``.
    """
    vocabulary, width = weight.shape
    if encoder.shape[::2] != (len(targets), width) or predictor.shape != (len(targets), targets.shape[1] + 1, width):
        raise ValueError(
            f"encoder {tuple(encoder.shape)}, predictor {tuple(predictor.shape)}, weight {tuple(weight.shape)} and targets "
            f"{tuple(targets.shape)} should be (B, T, J), (B, U + 1, J), (V, J) and (B, U)"
        )
    if activation not in ("tanh", "relu"):
        raise ValueError(f"activation is {activation!r}; choose tanh or relu")
    device = encoder.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else encoder.dtype
    encoder, predictor, weight = encoder.to(dtype), predictor.to(dtype), weight.to(dtype)
    bias = None if bias is None else bias.to(dtype)
    frames = bounded(logit_lengths, encoder.shape[1], "logit_lengths", encoder.device)
    labels = bounded(target_lengths, targets.shape[1], "target_lengths", encoder.device)
    tile = tile or max(1, TILE_ELEMENTS // max(math.prod(predictor.shape[:2]) * vocabulary, 1))
    with torch.autocast(device, enabled=False):
        label, blank_score, _ = joint_arcs(encoder, predictor, weight, bias, targets, frames, labels, blank % vocabulary, activation, tile)
        return reduce(-lattice(label, blank_score, frames, labels, fastemit)[0], reduction)
