"""Training of a streaming recogniser: hybrid CTC/transducer loss under dynamic chunk sizes."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import pytorch_lightning as lightning
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from riverrun.speech import augment
from riverrun.speech.attention import Context, position
from riverrun.speech.losses import ctc_loss, transducer_loss
from riverrun.speech.models import Recogniser, RecogniserConfig
from riverrun.streaming import within

from .data import Batch


@dataclass(frozen=True)
class Optimisation:
    """AdamW with linear warm-up, then a cosine to zero at ``steps``."""

    peak: float = 1.0e-3
    warmup: int = 1000
    steps: int = 10000
    decay: float = 0.01
    average: float = 0.999  #: decay of the exponential moving average of the weights


@dataclass(frozen=True)
class Augmentation:
    """Probabilities of each alteration; all rise linearly from zero between steps ``begin`` and ``full``."""

    begin: int = 1500
    full: int = 4000
    noise: float = 0.4
    babble: float = 0.15
    reverberation: float = 0.3
    telephone: float = 0.15
    equaliser: float = 0.6
    warp: float = 0.5


class AsrModule(lightning.LightningModule):
    """A `Recogniser` in training.

    Args:
        model: shape of the network.
        optimisation: optimiser and schedule.
        augmentation: what is done to audio and features.
        chunks: chunk sizes in encoder frames that are drawn from, beside full context.
        lefts: left contexts in encoder frames that are drawn from.
        full_context: share of steps under full context.
        ctc_weight: weight of the CTC loss beside the transducer's 1.
        compile_layers: compile the encoder's layers (one graph per batch shape, shared by the layers).
    """

    def __init__(
        self,
        model: RecogniserConfig,
        optimisation: Optimisation,
        augmentation: Augmentation,
        chunks: tuple[int, ...] = (4, 8, 16, 32),
        lefts: tuple[int, ...] = (32, 64, 128),
        full_context: float = 0.3,
        ctc_weight: float = 0.5,
        compile_layers: bool = False,
    ):
        super().__init__()
        self.save_hyperparameters()
        self.optimisation, self.augmentation = optimisation, augmentation
        self.chunks, self.lefts, self.full_context, self.ctc_weight = chunks, lefts, full_context, ctc_weight
        self.model = Recogniser(model)
        self.averaged = Recogniser(model).requires_grad_(False).eval()
        self.averaged.load_state_dict(self.model.state_dict())
        self.compile_layers = compile_layers
        self._chance = random.Random(1)  # noqa: S311 (contexts, not secrets)

    def on_fit_start(self) -> None:
        if self.compile_layers:
            torch._dynamo.config.recompile_limit = 64
            # a table that is a constant of the graph: traced into it, every layer would copy it from the CPU in every step, and wait
            table = position._rotation
            position._rotation = torch.compiler.assume_constant_result(getattr(table, "__wrapped__", table))
            for layer in self.model.encoder.layers:
                layer.compile(dynamic=False)

    def draw_context(self) -> Context:
        """The context of one step, the same for the whole batch."""
        if self._chance.random() < self.full_context:
            return Context()
        return Context(self._chance.choice(self.chunks), self._chance.choice(self.lefts))

    def training_step(self, batch: Batch, _: int) -> Tensor:
        features, frames = self.prepare(batch)
        encoded, lengths = self.model.encoder(features, frames, self.draw_context())
        losses = {}
        if self.model.ctc is not None:
            losses["ctc"] = ctc_loss(self.model.ctc(encoded), lengths, batch.labels, batch.counts)
        if self.model.joiner is not None:
            predicted = self.model.predict(batch.labels, batch.counts)
            losses["transducer"] = transducer_loss(self.model.joiner, encoded, predicted, lengths, batch.labels, batch.counts)
        for name, value in losses.items():
            self.log(f"train/{name}", value, prog_bar=True)
        if "transducer" not in losses:
            return losses["ctc"]
        return losses["transducer"] + self.ctc_weight * losses.get("ctc", 0)

    @torch.no_grad()
    def prepare(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Augmented, normalised features (B, T, bins) and their lengths; the first batch measures the normalisation."""
        with torch.autocast(batch.audio.device.type, enabled=False):
            a, strength = self.augmentation, self.strength()
            audio, model = augment.random_gain(batch.audio), self.model
            if strength > 0:
                audio = augment.reverberate(audio, a.reverberation * strength)
                audio = augment.add_noise(audio, batch.samples, a.noise * strength)
                audio = augment.add_babble(audio, batch.samples, a.babble * strength)
            features, frames = model.features(audio, batch.samples)
            if self.global_step == 0:
                model.normalise.measure(features, within(frames, features.shape[1]))
                self.averaged.normalise.load_state_dict(model.normalise.state_dict())
            if strength > 0:
                features = augment.warp_frequency(features, a.warp * strength)
                features = augment.band_limit(features, a.telephone * strength)
                features = augment.equalise(features, a.equaliser * strength)
            features, frames = model.normalise(features, frames)
            if strength > 0:
                features = augment.spec_augment(features, frames, widest_band=int(20 * strength), widest_gap=0.05 * strength)
        return features, frames

    def strength(self) -> float:
        """How far augmentation has risen, 0 to 1."""
        a = self.augmentation
        return min(max((self.global_step - a.begin) / max(a.full - a.begin, 1), 0.0), 1.0)

    def on_train_batch_end(self, *_: object) -> None:
        # a short average at first, so that it never lags far behind a young model
        decay = min(self.optimisation.average, (1 + self.global_step) / (10 + self.global_step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.averaged.parameters()), list(self.model.parameters()), 1 - decay)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        o = self.optimisation
        optimiser = torch.optim.AdamW(self.model.parameters(), o.peak, betas=(0.9, 0.98), weight_decay=o.decay)

        def scale(step: int) -> float:
            o = self.optimisation  # read anew: a callback may plan another number of steps
            if step < o.warmup:
                return (step + 1) / o.warmup
            progress = min((step - o.warmup) / max(o.steps - o.warmup, 1), 1.0)
            return 0.5 * (1 + math.cos(math.pi * progress))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, scale)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
