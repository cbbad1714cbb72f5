"""Training of a streaming recogniser: hybrid CTC/transducer loss under dynamic chunk sizes."""

from __future__ import annotations

import logging
import math
import random
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from riverrun.speech.attention import Context, position
from riverrun.speech.bundle import load_bundle
from riverrun.speech.losses import ctc_loss, transducer_loss
from riverrun.speech.losses.smoothing import uniform_divergence
from riverrun.speech.models import Recogniser, RecogniserConfig

from .corpus import Batch
from .front import features_of
from .options import Augmentation, Compilation, Contexts, Objective, Optimisation

log = logging.getLogger(__name__)


class AsrModule(lightning.LightningModule):
    """A `Recogniser` in training.

    Every step draws from generators that are seeded by ``seed``, the step and the rank, so that a run that was interrupted
    goes on as it would have.

    Args:
        model: shape of the network.
        optimisation: optimiser and schedule.
        augmentation: what is done to audio and features.
        objective: losses and weights.
        contexts: chunk sizes and left contexts that are drawn from.
        compilation: what is compiled.
        init: a bundle whose weights training begins with: its name or folder.
        seed: of everything that is drawn.
    """

    def __init__(
        self,
        model: RecogniserConfig,
        optimisation: Optimisation | None = None,
        augmentation: Augmentation | None = None,
        objective: Objective | None = None,
        contexts: Contexts | None = None,
        compilation: Compilation | None = None,
        init: str | None = None,
        seed: int = 1,
    ):
        super().__init__()
        self.optimisation, self.augmentation = optimisation or Optimisation(), augmentation or Augmentation()
        self.objective, self.contexts, self.compilation = objective or Objective(), contexts or Contexts(), compilation or Compilation()
        self.seed = seed
        self.model = Recogniser(model)
        if beyond := [n for n in self.objective.intermediate if not 1 <= n < model.encoder.layers]:
            raise ValueError(f"objective.intermediate names layer {beyond[0]}; the encoder's inner layers are 1 to {model.encoder.layers - 1}")
        if self.objective.intermediate and not model.ctc:
            raise ValueError("objective.intermediate needs a CTC head: set model.ctc to true")
        self._measured = init is not None
        if init is not None:
            begin_with(self.model, init)
        self.averaged = Recogniser(model).requires_grad_(False).eval()
        self.averaged.load_state_dict(self.model.state_dict())

    def on_fit_start(self) -> None:
        if self.compilation.layers or self.compilation.front:
            torch._dynamo.config.recompile_limit = 64
        if self.compilation.layers:
            # a table that is a constant of the graph: traced into it, every layer would copy it from the CPU in every step, and wait
            table = position._rotation
            position._rotation = torch.compiler.assume_constant_result(getattr(table, "__wrapped__", table))
            for layer in self.model.encoder.layers:
                layer.compile(dynamic=False, mode=self.compilation.mode)
        if self.compilation.front:
            self.model.encoder.subsampling.compile(dynamic=False)
            self.model.features.compile(dynamic=False)

    def draw_context(self) -> Context:
        """The context of one step, the same for the whole batch and on all ranks."""
        chance = random.Random(f"{self.seed} {self.global_step}")  # noqa: S311 (contexts, not secrets)
        if chance.random() < self.contexts.full:
            return Context()
        return Context(chance.choice(self.contexts.chunks), chance.choice(self.contexts.lefts))

    def training_step(self, batch: Batch, _: int) -> Tensor:
        torch.manual_seed((self.seed * 1_000_003 + self.global_step) * 1009 + self.global_rank)
        with torch.no_grad(), torch.autocast(batch.audio.device.type, enabled=False):
            features, frames = features_of(self.model, batch, self.augmentation, self.strength(), measure=not self._measured)
        if not self._measured:
            self.averaged.normalise.load_state_dict(self.model.normalise.state_dict())
            self._measured = True
        inner: list[Tensor] = []

        def keep(number: int, x: Tensor) -> None:
            if number in self.objective.intermediate:
                inner.append(x)

        encoded, lengths = self.model.encoder(features, frames, self.draw_context(), keep)
        losses = self.losses(encoded, inner, lengths, batch)
        for name, value in losses.items():
            self.log(f"train/{name}", value.detach(), prog_bar=name != "loss")
        return losses["loss"]

    def losses(self, encoded: Tensor, inner: list[Tensor], lengths: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Each loss by name, and their weighted sum ``loss``.

        Args:
            encoded: (B, T, dim) the encoder's output.
            inner: outputs (B, T, dim) of inner layers.
            lengths: (B,) real frames.
            batch: labels and their counts.
        """
        o, model = self.objective, self.model
        losses: dict[str, Tensor] = {}
        total = encoded.new_zeros((), dtype=torch.float32)
        if model.ctc is not None:
            logits = model.ctc(encoded)
            losses["ctc"] = ctc = ctc_loss(logits, lengths, batch.labels, batch.counts)
            if inner:
                n = len(inner)
                losses["intermediate"] = ctc_loss(
                    model.ctc(torch.cat(inner)), lengths.repeat(n), batch.labels.repeat(n, 1), batch.counts.repeat(n)
                )
                ctc = (1 - o.intermediate_share) * ctc + o.intermediate_share * losses["intermediate"]
            if o.smoothing:
                ctc = ctc + o.smoothing * uniform_divergence(logits, lengths)
            total = total + (ctc if model.joiner is None else o.ctc * ctc)
        if model.joiner is not None:
            heard = batch.labels
            if o.label_dropout:
                heard = heard.masked_fill(torch.rand(heard.shape, device=heard.device) < o.label_dropout, 0)
            predicted = model.predict(heard, batch.counts)
            losses["transducer"] = transducer_loss(
                model.joiner, encoded, predicted, lengths, batch.labels, batch.counts, fastemit=o.fastemit
            )
            total = total + losses["transducer"]
        return {**losses, "loss": total}

    def strength(self) -> float:
        """How far augmentation has risen, 0 to 1."""
        a = self.augmentation
        return min(max((self.global_step - a.begin) / max(a.full - a.begin, 1), 0.0), 1.0)

    def on_train_batch_end(self, *_: object) -> None:
        # a short average at first, so that it never lags far behind a young model
        decay = min(self.optimisation.average, (1 + self.global_step) / (10 + self.global_step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.averaged.parameters()), list(self.model.parameters()), 1 - decay)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["riverrun"] = {"measured": self._measured}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._measured = checkpoint["riverrun"]["measured"]

    def configure_gradient_clipping(self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None) -> None:
        """Clip to ``optimisation.clip`` (a fused optimiser does not go together with the trainer's own clipping)."""
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.optimisation.clip)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        o = self.optimisation
        on_gpu = next(self.model.parameters()).is_cuda
        optimiser = torch.optim.AdamW(self.model.parameters(), o.peak, betas=(0.9, 0.98), weight_decay=o.decay, fused=on_gpu)

        def scale(step: int) -> float:
            o = self.optimisation  # read anew: a callback may plan another number of steps
            if step < o.warmup:
                return (step + 1) / o.warmup
            progress = min((step - o.warmup) / max(o.steps - o.warmup, 1), 1.0)
            return 0.5 * (1 + math.cos(math.pi * progress))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, scale)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def begin_with(model: Recogniser, bundle: str) -> None:
    """Take all weights of a bundle that fit ``model`` by name and shape; heads of another vocabulary stay as they are, and are named.

    Raises:
        ValueError: there is no such bundle, or its encoder is another one.
    """
    given, own = load_bundle(bundle).network.state_dict(), model.state_dict()
    fit = {name: tensor for name, tensor in given.items() if name in own and own[name].shape == tensor.shape}
    if unlike := sorted(name for name in own.keys() - fit.keys() if name.startswith("encoder.")):
        raise ValueError(f"the encoder of {bundle} is not that of model.encoder: {unlike[0]} differs; copy its config.yaml's encoder section")
    if fresh := sorted(own.keys() - fit.keys()):
        log.warning("%s has nothing for %s: trained from scratch", bundle, ", ".join(fresh))
    model.load_state_dict({**own, **fit})


__all__ = ["AsrModule", "Augmentation", "Compilation", "Contexts", "Objective", "Optimisation", "begin_with"]
