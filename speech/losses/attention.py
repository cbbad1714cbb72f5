"""Cross entropy of an attention decoder, alone or beside CTC, and the scores it gives to whole texts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from riverrun.streaming import within

from ..decoders import TransformerDecoder


def attention_loss(
    decoder: TransformerDecoder, encoded: Tensor, frames: Tensor, labels: Tensor, counts: Tensor, smoothing: float = 0.1
) -> Tensor:
    """Cross entropy of each label and of the end, given those before it, averaged over all of them.

    Joint training with CTC: Watanabe et al. 2017, "Hybrid CTC/attention architecture for end-to-end speech recognition".

    Args:
        decoder: reads and writes the recogniser's labels; label 0, its blank, begins and ends a text.
        encoded: (B, T, E) encoder frames.
        frames: (B,) real frames.
        labels: (B, U), padded with 0.
        counts: (B,) real labels.
        smoothing: share of probability spread over all labels (Szegedy et al. 2016).
    """
    scores = decoder(F.pad(labels, (1, 0)), counts + 1, encoded, frames)
    losses = F.cross_entropy(scores.flatten(0, 1).float(), F.pad(labels, (0, 1)).flatten(), reduction="none", label_smoothing=smoothing)
    real = within(counts + 1, labels.shape[1] + 1)
    return (losses.view_as(real) * real).sum() / real.sum()


def text_log_probs(decoder: TransformerDecoder, encoded: Tensor, frames: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """Log-probability (B, K) of K texts (B, K, U), (B, K) of each recording, their ends included: for a second pass over a beam.

    Zhang et al. 2020, "Unified streaming and non-streaming two-pass end-to-end model for speech recognition".
    """
    batch, texts, most = labels.shape
    real = within(counts.flatten(), most)
    flat = torch.where(real, labels.flatten(0, 1), 0)
    many = encoded.repeat_interleave(texts, 0), frames.repeat_interleave(texts, 0)
    scores = decoder(F.pad(flat, (1, 0)), counts.flatten() + 1, *many).float().log_softmax(-1)
    said = scores.gather(2, F.pad(flat, (0, 1))[..., None])[..., 0]
    return (said * within(counts.flatten() + 1, most + 1)).sum(1).view(batch, texts)
