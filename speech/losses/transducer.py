"""RNN transducer (Graves 2012)."""

from __future__ import annotations

import torch
import torchaudio.functional
from torch import Tensor


def transducer_loss(logits: Tensor, frames: Tensor, labels: Tensor, counts: Tensor, blank: int = 0) -> Tensor:
    """Negative log-likelihood per label, averaged over the batch.

    Args:
        logits: (B, T, U + 1, V) unnormalised joiner scores.
        frames: (B,) real frames.
        labels: (B, U) label ids, padded arbitrarily.
        counts: (B,) real labels.
        blank: id of the blank.
    """
    losses = torchaudio.functional.rnnt_loss(
        logits.float(), labels.to(torch.int32), frames.to(torch.int32), counts.to(torch.int32), blank=blank, clamp=-1, reduction="none"
    )
    return losses.sum() / counts.sum().clamp(min=1)
