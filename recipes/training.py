"""What the training of every network shares: seeded steps, averaging, the schedule; and of every network that hears: features, contexts."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

import pytorch_lightning as lightning
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from riverrun.speech.attention import Context, position
from riverrun.speech.models import Recogniser, Translator

from .asr.corpus import Batch
from .asr.front import features_of
from .asr.options import Augmentation, Compilation, Contexts, Optimisation
from .muon import Muon
from .sharding import clip, is_sharded, local, shard, share_gradients

N = TypeVar("N", bound=nn.Module)
S = TypeVar("S", bound=Recogniser | Translator)

RECOMPILE_LIMIT = 64  #: graphs of one piece of code; each shape of a batch is one


class AveragedModule(lightning.LightningModule, Generic[N]):
    """A network in training, and the moving average of its weights.

    Every step draws from generators that are seeded by ``seed``, the step and the rank, so that a run that was interrupted
    goes on as it would have.

    Args:
        model: what learns.
        averaged: another instance of it, for the average.
        optimisation: optimiser and schedule.
        seed: of everything that is drawn.
    """

    def __init__(self, model: N, averaged: N, optimisation: Optimisation, seed: int):
        super().__init__()
        self.optimisation, self.seed = optimisation, seed
        self.model, self.averaged = model, averaged.requires_grad_(False).eval()
        self.averaged.load_state_dict(self.model.state_dict())
        self.gradient_norm = torch.zeros(())  #: of the last step, before clipping

    def learned(self) -> list[tuple[str, nn.Parameter]]:
        """Names and parameters that the optimiser moves."""
        return list(self.model.named_parameters())

    def seed_step(self) -> None:
        """Call it first in a training step."""
        torch.manual_seed((self.seed * 1_000_003 + self.global_step) * 1009 + self.global_rank)

    def on_train_batch_end(self, *_: object) -> None:
        # a short average at first, so that it never lags far behind a young model
        decay = min(self.optimisation.average, (1 + self.global_step) / (10 + self.global_step))
        with torch.no_grad():
            torch._foreach_lerp_(local(self.averaged.parameters()), local(self.model.parameters()), 1 - decay)

    def on_after_backward(self) -> None:
        if is_sharded(parameters := [parameter for _, parameter in self.learned()]):
            share_gradients(parameters)

    def configure_gradient_clipping(self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None) -> None:
        """Clip to ``optimisation.clip`` (a fused optimiser does not go together with the trainer's own clipping)."""
        self.gradient_norm = norm = clip([parameter for _, parameter in self.learned()], self.optimisation.clip)
        if optimizer.defaults.get("fused") and not is_sharded(self.model.parameters()):
            optimizer.found_inf = (~norm.isfinite()).float()  # a step that would spoil the weights is left out, on the device
        elif norm.device.type == "cpu" and not norm.isfinite():
            optimizer.zero_grad()
        elif norm.device.type != "cpu":
            for _, parameter in self.learned():
                if parameter.grad is not None:  # clipping has spread a NaN to all of them: no gradient, without a look from the host
                    local([parameter.grad])[0].nan_to_num_(0.0, 0.0, 0.0)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        o = self.optimisation
        pieces = [p for _, p in self.learned() if is_sharded([p])]
        rest = [p for _, p in self.learned() if not is_sharded([p])]
        groups = [{"params": group} for group in (pieces, rest) if group]  # no kernel takes both kinds at once
        # a loop over pieces would cost far more than their arithmetic
        fused = bool(pieces) or next(self.model.parameters()).is_cuda
        optimiser: torch.optim.Optimizer = (
            Muon(self.learned(), o.peak, weight_decay=o.decay)
            if o.method == "muon"
            else torch.optim.AdamW(groups, o.peak, betas=(0.9, 0.98), weight_decay=o.decay, fused=fused)
        )

        def scale(step: int) -> float:
            o = self.optimisation  # read anew: a callback may plan another number of steps
            if step < o.warmup:
                return (step + 1) / o.warmup
            progress = min((step - o.warmup) / max(o.steps - o.warmup, 1), 1.0)
            return 0.5 * (1 + math.cos(math.pi * progress))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, scale)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class SpeechModule(AveragedModule[S]):
    """A network that hears audio, in training under augmentation and varying contexts.

    Args:
        model: what learns.
        averaged: another instance of it, for the average.
        optimisation: optimiser and schedule.
        augmentation: what is done to audio and features.
        contexts: chunk sizes and left contexts that are drawn from.
        compilation: what is compiled.
        measured: whether the network's normalisation is set already; if not, the first batch sets it.
        seed: of everything that is drawn.
    """

    def __init__(
        self,
        model: S,
        averaged: S,
        optimisation: Optimisation | None,
        augmentation: Augmentation | None,
        contexts: Contexts | None,
        compilation: Compilation | None,
        measured: bool,
        seed: int,
    ):
        super().__init__(model, averaged, optimisation or Optimisation(), seed)
        self.augmentation, self.contexts, self.compilation = (
            augmentation or Augmentation(),
            contexts or Contexts(),
            compilation or Compilation(),
        )
        self._measured = measured

    def configure_model(self) -> None:
        """Under a strategy with a device mesh, spread the encoder of both networks over it."""
        if self.device_mesh is None or is_sharded(self.model.parameters()):
            return
        for network in (self.model, self.averaged):
            shard(network.encoder, network.encoder.layers, self.device_mesh["data_parallel"])

    def compiled_layers(self) -> list[nn.Module]:
        """The layers that ``compilation.layers`` is about."""
        return list(self.model.encoder.layers)

    def on_fit_start(self) -> None:
        if self.compilation.layers:
            compile_layers(self.compiled_layers(), self.compilation.mode)
        if self.compilation.front:
            torch._dynamo.config.recompile_limit = RECOMPILE_LIMIT
            self.model.encoder.subsampling.compile(dynamic=False)
            self.model.features.compile(dynamic=False)

    def draw_context(self) -> Context:
        """The context of one step, the same for the whole batch and on all ranks."""
        chance = random.Random(f"{self.seed} {self.global_step}")  # noqa: S311 (contexts, not secrets)
        if chance.random() < self.contexts.full:
            return Context()
        return Context(chance.choice(self.contexts.chunks), chance.choice(self.contexts.lefts))

    def prepare(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Augmented, normalised features (B, T, bins) of a training batch, and their lengths."""
        with torch.no_grad(), torch.autocast(batch.audio.device.type, enabled=False):
            features, frames = features_of(self.model, batch, self.augmentation, self.strength(), measure=not self._measured)
        if not self._measured:
            self.averaged.normalise.load_state_dict(self.model.normalise.state_dict())
            self._measured = True
        return features, frames

    def strength(self) -> float:
        """How far augmentation has risen, 0 to 1."""
        a = self.augmentation
        return min(max((self.global_step - a.begin) / max(a.full - a.begin, 1), 0.0), 1.0)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["riverrun"] = {"measured": self._measured}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._measured = checkpoint["riverrun"]["measured"]


def compile_layers(layers: Iterable[nn.Module], mode: str = "default") -> None:
    """Compile layers of one shape in place: one graph for each batch shape, shared by all of them."""
    torch._dynamo.config.recompile_limit = RECOMPILE_LIMIT
    # layers are compiled one by one, and exchange gradients one by one: cut once more, each would be compiled in several pieces
    torch._dynamo.config.optimize_ddp = False
    # a table that is a constant of the graph: traced into it, every layer would copy it from the CPU in every step, and wait
    table = position._rotation
    position._rotation = torch.compiler.assume_constant_result(getattr(table, "__wrapped__", table))
    for layer in layers:
        layer.compile(dynamic=False, mode=mode)


__all__ = ["AveragedModule", "SpeechModule", "compile_layers"]
