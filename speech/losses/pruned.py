"""Pruned training of a transducer (Kuang et al. 2022, "Pruned RNN-T for fast, memory-efficient ASR training")."""

from __future__ import annotations

import importlib
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from riverrun.kernels import transducer as own

from ..joiner import Joiner


class MissingImplementation(ValueError):
    """A loss whose package is not installed."""


class SimpleJoiner(nn.Module):
    """Both sides straight to scores of the vocabulary, added: what decides where the real joiner looks. For training only.

    Args:
        encoder_dim: size of an encoder frame.
        predictor_dim: size of a prediction.
        vocabulary: labels, blank included.
    """

    def __init__(self, encoder_dim: int, predictor_dim: int, vocabulary: int):
        super().__init__()
        self.encoder, self.predictor = nn.Linear(encoder_dim, vocabulary), nn.Linear(predictor_dim, vocabulary)


class PrunedLosses(NamedTuple):
    """Negative log-likelihoods per label: of the additive joiner over the whole lattice, and of the real one where it looks."""

    simple: Tensor
    pruned: Tensor


def implementation(name: str) -> Any:
    """Who computes the losses: "own", or "k2", the package that they were published with.

    Raises:
        MissingImplementation: k2 is not installed.
        ValueError: another name.
    """
    if name == "own":
        return own
    if name != "k2":
        raise ValueError(f"unknown implementation {name!r} of the pruned loss: choose own or k2")
    try:
        return importlib.import_module("k2")
    except ImportError:
        raise MissingImplementation("the pruned loss of k2 needs k2, built for this PyTorch; see its instructions or choose own") from None


def pruned_transducer_loss(
    joiner: Joiner,
    simple: SimpleJoiner,
    encoded: Tensor,
    predicted: Tensor,
    frames: Tensor,
    labels: Tensor,
    counts: Tensor,
    reach: int = 5,
    predictor_share: float = 0.25,
    encoder_share: float = 0.0,
    by: str = "own",
) -> PrunedLosses:
    """The two losses of pruned training, averaged over labels; utterances without a path through the pruned lattice count as zero.

    Args:
        joiner: the transducer's.
        simple: see `SimpleJoiner`.
        encoded: (B, T, E) encoder frames.
        predicted: (B, U + 1, P) predictions: after a blank, and after each label.
        frames: (B,) real frames.
        labels: (B, U) label ids.
        counts: (B,) real labels.
        reach: label positions that the real joiner sees on a frame.
        predictor_share: share of the predictor's own distribution in the simple joiner's.
        encoder_share: likewise of the encoder's.
        by: see `implementation`.
    """
    losses = implementation(by)
    if by == "k2":  # it refuses a batch with fewer frames than labels, padding included
        encoded = nn.functional.pad(encoded, (0, 0, 0, max(labels.shape[1] - encoded.shape[1], 0)))
    nothing = torch.zeros_like(counts)
    boundary = torch.stack([nothing, nothing, counts, frames], 1)
    total = counts.sum().clamp(min=1)
    with torch.autocast(encoded.device.type, enabled=False):
        am = nn.functional.linear(encoded.float(), simple.encoder.weight.float(), simple.encoder.bias.float())
        lm = nn.functional.linear(predicted.float(), simple.predictor.weight.float(), simple.predictor.bias.float())
        whole = losses.rnnt_loss_smoothed if by == "k2" else losses.rnnt_loss_simple
        simple_loss, gradients = whole(
            lm=lm,
            am=am,
            symbols=labels,
            termination_symbol=0,
            lm_only_scale=predictor_share,
            am_only_scale=encoder_share,
            boundary=boundary,
            reduction="sum",
            return_grad=True,
        )
        ranges = losses.get_rnnt_prune_ranges(
            px_grad=gradients[0].detach(), py_grad=gradients[1].detach(), boundary=boundary, s_range=reach
        )
    near, seen = losses.do_rnnt_pruning(am=joiner.project_encoder(encoded), lm=joiner.project_predictor(predicted), ranges=ranges)
    logits = joiner.join(near, seen)
    with torch.autocast(encoded.device.type, enabled=False):
        each = losses.rnnt_loss_pruned(
            logits=logits.float(), symbols=labels, ranges=ranges, termination_symbol=0, boundary=boundary, reduction="none"
        )
    return PrunedLosses(simple_loss / total, torch.where(each.isfinite(), each, 0).sum() / total)
