"""Label smoothing."""

from __future__ import annotations

import math

from torch import Tensor

from riverrun.streaming import within


def uniform_divergence(logits: Tensor, lengths: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the uniform distribution from that of ``logits``, in nats, averaged over real positions.

    Added to a frame-wise or label-wise loss with a small weight it is label smoothing (Szegedy et al. 2016, "Rethinking the
    Inception architecture"); for CTC, whose frames have no label, Kim et al. 2018, "Improved training for online end-to-end
    speech recognition systems".

    Args:
        logits: (B, T, V) unnormalised scores.
        lengths: (B,) real positions.
    """
    score = logits.float().log_softmax(-1)
    divergence = -score.mean(-1) - math.log(logits.shape[-1])
    real = within(lengths, logits.shape[1])
    return (divergence * real).sum() / lengths.sum().clamp(min=1)
