"""Attention entropy of every head, logged while training runs: it falls to zero before training fails."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as lightning
import torch
from torch import Tensor

from riverrun.speech.attention import Context, attention_mask
from riverrun.speech.encoders import ConformerEncoder, ConformerLayer
from riverrun.streaming import within

from ..training import SpeechModule
from .errors import TrainingError


@torch.no_grad()
def attention_entropy(encoder: ConformerEncoder, features: Tensor, frames: Tensor, context: Context) -> Tensor:
    """Mean entropy in nats of each head's weights over real frames, (layers, heads).

    Args:
        encoder: in evaluation mode.
        features: (B, T, bins), normalised.
        frames: (B,).
        context: what a frame sees.

    Raises:
        TrainingError: an attention layer that has no weights to look at.
    """
    entering: list[Tensor] = []
    _, lengths = encoder(features, frames, context, lambda _, x: entering.append(x), dense=True)
    mask = attention_mask(context, lengths, entering[0].shape[1])
    real = within(lengths, mask.shape[1])[:, None]
    found = []
    for layer, x in zip(encoder.layers, entering, strict=False):
        if not isinstance(layer, ConformerLayer) or not hasattr(layer.attention, "weights"):
            raise TrainingError(
                f"{type(getattr(layer, 'attention', layer)).__name__} has no attention weights whose entropy could be logged"
            )
        weights = layer.attention.weights(layer.attention_norm(x + 0.5 * layer.feed_in(x)), mask).float()
        entropy = -(weights * weights.clamp(min=1e-12).log()).sum(-1)
        found.append((entropy * real).sum((0, 2)) / real.sum())
    return torch.stack(found)


class WatchAttention(lightning.Callback):
    """Log ``entropy/<layer>/<head>`` of the network in training, under full context, on a few utterances of the batch.

    Args:
        every: steps between two looks.
        utterances: how many.
    """

    def __init__(self, every: int = 500, utterances: int = 4):
        if every < 1 or utterances < 1:
            raise TrainingError(f"WatchAttention needs at least 1 step and 1 utterance, not {every} and {utterances}")
        self.every, self.utterances = every, utterances

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step % self.every or not trainer.is_global_zero or not isinstance(pl_module, SpeechModule):
            return
        model = pl_module.model
        model.eval()
        with torch.no_grad(), torch.autocast(batch.audio.device.type, enabled=False):
            audio, samples = batch.audio[: self.utterances], batch.samples[: self.utterances]
            features, frames = model.normalise(*model.features(audio, samples))
            entropy = attention_entropy(model.encoder, features, frames, Context())
        model.train()
        values = {f"entropy/{i}/{j}": float(value) for i, row in enumerate(entropy.tolist(), 1) for j, value in enumerate(row, 1)}
        for logger in trainer.loggers:
            logger.log_metrics({**values, "entropy/lowest": float(entropy.min())}, trainer.global_step)
