"""RNN transducer (Graves 2012)."""

from __future__ import annotations

from torch import Tensor

from riverrun.kernels.transducer import joint_rnnt_loss

from ..joiner import Joiner


def transducer_loss(
    joiner: Joiner,
    encoded: Tensor,
    predicted: Tensor,
    frames: Tensor,
    labels: Tensor,
    counts: Tensor,
    blank: int = 0,
    fastemit: float = 0.0,
) -> Tensor:
    """Negative log-likelihood per label, averaged over the batch; the lattice of scores never exists whole.

    Args:
        joiner: the network that combines both sides.
        encoded: (B, T, E) encoder frames.
        predicted: (B, U + 1, P) predictions: after a blank, and after each label.
        frames: (B,) real frames.
        labels: (B, U) label ids, padded arbitrarily.
        counts: (B,) real labels.
        blank: id of the blank.
        fastemit: λ of FastEmit (Yu et al. 2021), which rewards early labels.
    """
    loss = joint_rnnt_loss(
        joiner.project_encoder(encoded),
        joiner.project_predictor(predicted),
        joiner.output.weight,
        joiner.output.bias,
        labels,
        frames,
        counts,
        blank=blank,
        reduction="sum",
        fastemit=fastemit,
    )
    return loss / counts.sum().clamp(min=1)
