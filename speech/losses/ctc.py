"""Connectionist temporal classification (Graves et al. 2006)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def ctc_loss(logits: Tensor, frames: Tensor, labels: Tensor, counts: Tensor, blank: int = 0) -> Tensor:
    """Negative log-likelihood per label, averaged over the batch.

    Args:
        logits: (B, T, V) unnormalised scores.
        frames: (B,) real frames.
        labels: (B, U) label ids, padded arbitrarily.
        counts: (B,) real labels.
        blank: id of the blank.

    Utterances whose labels cannot fit their frames count as zero.
    """
    losses = F.ctc_loss(
        logits.float().log_softmax(-1).transpose(0, 1), labels, frames, counts, blank=blank, reduction="none", zero_infinity=True
    )
    return losses.sum() / counts.sum().clamp(min=1)
