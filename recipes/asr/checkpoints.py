"""Checkpoints that a kill, a crash or a full disk cannot spoil, and the way back to them."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from lightning_fabric.plugins.io.torch_io import TorchCheckpointIO

from .errors import TrainingError

log = logging.getLogger(__name__)

_NAME = re.compile(r"step-(\d{8})\.ckpt")


class CheckpointFiles(TorchCheckpointIO):
    """Writes a checkpoint under another name, waits for the disk, and renames it; reads no pickled code.

    A checkpoint that cannot be written is given up with an error in the log: training goes on, and those before it stay.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        temporary = path.with_name(path.name + ".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except (OSError, RuntimeError) as error:  # torch.save reports a failing file as RuntimeError, too
            temporary.unlink(missing_ok=True)
            cause = error if isinstance(error, OSError) else error.__context__ or error
            good = newest(path.parent)
            log.error("%s could not be written: %s; the last good checkpoint is %s", path, cause, good or "none")

    def load_checkpoint(self, path: Any, map_location: Any = lambda storage, _: storage, weights_only: bool | None = True) -> Any:
        return torch.load(path, map_location=map_location, weights_only=True)


def saved(folder: Path) -> list[Path]:
    """Complete checkpoints of a folder, oldest first."""
    return sorted(path for path in folder.glob("step-*.ckpt") if _NAME.fullmatch(path.name))


def newest(folder: Path) -> Path | None:
    """The last complete checkpoint of a folder, or None."""
    return next(iter(saved(folder)[::-1]), None)


class KeepCheckpoints(lightning.Callback):
    """Write everything that a restart needs every ``every`` steps and at the end; ``fit --ckpt_path last`` goes on from there.

    Args:
        folder: where checkpoints go.
        every: steps between two.
        keep: how many of the newest stay.
    """

    def __init__(self, folder: str, every: int = 1000, keep: int = 3):
        if every < 1 or keep < 1:
            raise TrainingError(f"KeepCheckpoints needs at least 1 step and 1 checkpoint, not {every} and {keep}")
        self.folder, self.every, self.keep = Path(folder), every, keep
        self._written = -1

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        trainer.strategy.checkpoint_io = CheckpointFiles()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: object) -> None:
        if trainer.global_step % self.every == 0:
            self.write(trainer)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self.write(trainer)

    def write(self, trainer: lightning.Trainer) -> None:
        """Write a checkpoint now, unless this step has one, and remove what is too old."""
        if trainer.global_step == self._written:  # not whether the file is there: another rank may have been faster
            return
        self._written = trainer.global_step
        path = self.folder / f"step-{trainer.global_step:08d}.ckpt"
        trainer.save_checkpoint(path)
        if trainer.is_global_zero and path.exists():
            for old in saved(self.folder)[: -self.keep]:
                old.unlink()


__all__ = ["CheckpointFiles", "KeepCheckpoints", "newest", "saved"]
