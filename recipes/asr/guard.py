"""Losses and gradients that are not finite: noticed without waiting for the device, named, and survived or stopped at."""

from __future__ import annotations

import logging
import math
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import Tensor

from ..training import AveragedModule
from .checkpoints import KeepCheckpoints, newest
from .data import AsrData
from .errors import TrainingError

log = logging.getLogger(__name__)


class Guard(lightning.Callback):
    """Look every ``every`` steps whether a loss or the gradient was NaN or infinite since.

    The weights never learn from such a step (`AveragedModule` leaves it out). One is a warning that says which step, which losses and
    which utterances; more than ``most`` since the last look end training, with the same facts and the last good checkpoint.

    Args:
        every: steps between two looks, each of which waits for the device.
        most: bad steps between two looks that are put up with.

    Raises:
        TrainingError: there were more.
    """

    def __init__(self, every: int = 20, most: int = 4):
        if every < 1 or most < 0:
            raise TrainingError(f"Guard needs at least 1 step and at most 0 or more bad ones, not {every} and {most}")
        self.every, self.most = every, most
        self._names: list[str] = []
        self._bad = torch.zeros(())  # number of bad steps
        self._first = torch.zeros(0)  # the first bad step's number, losses and gradient norm

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not isinstance(pl_module, AveragedModule):
            raise TypeError(f"Guard watches modules of riverrun's recipes, not {type(pl_module).__name__}")
        losses = {name: value for name, value in outputs.items() if isinstance(value, Tensor)}
        values = torch.stack([*(value.detach().float() for value in losses.values()), pl_module.gradient_norm.detach().float()])
        if (names := [*losses, "gradient norm"]) != self._names:  # an encoder that grows gets new losses
            self.look(trainer)
            self._names, self._bad, self._first = names, values.new_zeros(()), values.new_zeros(len(values) + 1)
        bad = ~values.isfinite().all()
        step = torch.full_like(values[:1], trainer.global_step - 1)
        self._first = torch.where(bad & (self._bad == 0), torch.cat([step, values]), self._first)
        self._bad = self._bad + bad
        if trainer.global_step % self.every == 0:
            self.look(trainer)

    def look(self, trainer: lightning.Trainer) -> None:
        """Wait for the device, and speak if something was bad."""
        if not self._names:
            return
        count, (step, *values) = int(self._bad), self._first.tolist()
        self._bad = torch.zeros_like(self._bad)
        most = int(trainer.strategy.reduce(torch.tensor(count, device=self._bad.device), reduce_op="max"))
        if count:
            said = ", ".join(f"{name} {value:g}" for name, value in zip(self._names, values, strict=True))
            log.warning("step %d of rank %d: %s; its utterances: %s", step, trainer.global_rank, said, self._utterances(trainer, int(step)))
        if most <= self.most:
            return
        culprits = [name for name, value in zip(self._names, values, strict=True) if not math.isfinite(value)] or ["another rank's loss"]
        folders = [callback.folder for callback in getattr(trainer, "callbacks", []) if isinstance(callback, KeepCheckpoints)]
        good = next((path for path in map(newest, folders) if path is not None), None)
        raise TrainingError(
            f"{most} of the last {self.every} steps had no finite {' and '.join(culprits)}, the first in step {step:.0f}: training ended. "
            f"The last good checkpoint is {good or 'none'}. Lower optimisation.peak, or look at the utterances named above."
        )

    @staticmethod
    def _utterances(trainer: lightning.Trainer, step: int) -> str:
        data = getattr(trainer, "datamodule", None)
        return ", ".join(data.utterances_of(step)) if isinstance(data, AsrData) else "unknown"
