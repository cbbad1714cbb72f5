"""What happens beside the optimisation: the averaged model is kept as a bundle; training ends on time."""

from __future__ import annotations

import json
import logging
import statistics
import time
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
from safetensors import SafetensorError

from riverrun.speech.bundle import FORMAT, BundleConfig, save_bundle

from ..training import AveragedModule
from .data import read_tokenizer
from .errors import TrainingError
from .module import AsrModule

log = logging.getLogger(__name__)


class KeepBundle(lightning.Callback):
    """Write the averaged weights as a bundle every ``every`` steps and at the end.

    Args:
        folder: where the bundle goes.
        tokenizer: path of the sentencepiece model.
        name: the bundle's name.
        every: optimiser steps between two writes.
        languages: what the model hears.
        licence: of the weights.
    """

    def __init__(
        self, folder: str, tokenizer: str, name: str, every: int = 1000, languages: tuple[str, ...] = ("en",), licence: str = "Apache-2.0"
    ):
        self.folder, self.tokenizer, self.every = Path(folder), read_tokenizer(tokenizer), every
        self.name, self.languages, self.licence = name, languages, licence

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if isinstance(pl_module, AsrModule) and len(self.tokenizer) != (size := pl_module.model.config.vocabulary):
            raise TrainingError(
                f"KeepBundle's tokenizer has {len(self.tokenizer)} pieces, the network {size}: give it that of data.tokenizer"
            )

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: object) -> None:
        if trainer.global_step % self.every == 0:
            self.write(trainer, pl_module)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.write(trainer, pl_module)

    def write(self, trainer: lightning.Trainer, module: lightning.LightningModule) -> None:
        """Write the bundle as the averaged weights stand now."""
        if not isinstance(module, AsrModule):
            raise TypeError(f"KeepBundle keeps models of AsrModule, not of {type(module).__name__}")
        model = module.finished()
        if not trainer.is_global_zero:
            return
        config = BundleConfig(
            format=FORMAT,
            name=self.name,
            description=f"after {trainer.global_step} steps",
            languages=self.languages,
            licence=self.licence,
            model=model.config,
        )
        card = f"# {self.name}\n\nAfter {trainer.global_step} steps; not yet measured.\n"
        try:
            save_bundle(self.folder, config, model, self.tokenizer, card)
        except (OSError, SafetensorError) as error:  # a full disk must not end training
            for part in self.folder.glob("*.part"):
                part.unlink()
            log.error("%s could not be written: %s; what was there before stays", self.folder, error)


class WriteTexts(lightning.Callback):
    """Write what ``predict`` heard as JSON Lines: ``id`` and ``text`` of each recording.

    Args:
        path: where to; under several processes each writes its own, with its rank before the suffix.
    """

    def __init__(self, path: str = "predicted.jsonl"):
        self.path = Path(path)
        self._rows: list[dict[str, str]] = []

    def on_predict_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int, *_: int
    ) -> None:
        self._rows += outputs

    def on_predict_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        path = self.path if trainer.world_size == 1 else self.path.with_suffix(f".{trainer.global_rank}{self.path.suffix}")
        temporary = path.with_name(path.name + ".part")
        temporary.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self._rows), encoding="utf-8")
        temporary.replace(path)
        self._rows = []


class FinishBy(lightning.Callback):
    """End training after so many minutes, with the learning rate at zero: the number of steps follows the speed measured.

    A machine may be given back at a time, not at a step. Every ``every`` steps the schedule is planned anew, by the median of
    their durations: the few that waited for a compiler or for new corpora would make the schedule end too soon.

    Args:
        minutes: of training, from its first batch.
        every: steps between two plans.
        from_start: count from when the command was read, so that reading corpora and compiling the first steps come out of the minutes.
    """

    def __init__(self, minutes: float, every: int = 100, from_start: bool = False):
        if minutes <= 0 or every < 1:
            raise TrainingError(f"FinishBy needs more than 0 minutes and at least 1 step, not {minutes} and {every}")
        self.seconds, self.every = minutes * 60, every
        self._began = time.monotonic() if from_start else None
        self._before: float | None = None
        self._took: deque[float] = deque(maxlen=every)

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: object) -> None:
        if not isinstance(pl_module, AveragedModule):
            raise TypeError(f"FinishBy plans for modules of riverrun.recipes.training, not for {type(pl_module).__name__}")
        now, step = time.monotonic(), trainer.global_step
        if self._began is None:
            self._began = now
        if self._before is not None:
            self._took.append(now - self._before)
        self._before = now
        if step % self.every or not self._took:
            return
        left = self._began + self.seconds - now
        # all ranks by the first one's clock, or one would stop without the others
        left, steps = trainer.strategy.broadcast((left, step + max(0, round(left / statistics.median(self._took)))))
        pl_module.optimisation = replace(pl_module.optimisation, steps=steps)
        if left <= 0 or steps <= step:
            trainer.should_stop = True
