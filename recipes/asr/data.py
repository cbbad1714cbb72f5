"""Batches for training: packed corpora on the accelerator, in an order that a restart repeats."""

from __future__ import annotations

import logging
from collections import deque
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from riverrun.speech.tokenizer import Tokenizer

from .arrivals import Arrivals
from .corpus import Batch, DeviceCorpus, Part, Source, read_part
from .dev import DevBatch, DevSet
from .errors import TrainingError
from .plan import Plan

log = logging.getLogger(__name__)

_REMEMBERED = 256  # batches whose utterances can be named


class AsrData(lightning.LightningDataModule):
    """Batches for `AsrModule`, gathered on its device.

    Under several processes each holds its share of every corpus, and all have batches of the same shape in the same step.

    Args:
        sources: packed corpora that stay for good; one that does not exist yet is taken in at a later epoch.
        tokenizer: path of a sentencepiece model.
        watch: a folder whose sub-folders are packed corpora; those that appear while training runs are taken in at the next epoch.
        watch_repeat: how often an epoch holds a corpus of ``watch``.
        hours_on_device: memory for speech on each device, in hours (115 MB each), taken at once; when it is full the oldest corpora
            of ``watch`` go. Without it the memory is as large as the corpora.
        buckets: batch lengths in seconds; multiples of 0.64 s make multiples of 16 encoder frames, which attention kernels like.
        budget_s: seconds of audio per batch and device.
        speed: largest relative change of playing speed in training.
        short_epochs: epochs at the beginning that hold only utterances up to ``short_s`` seconds.
        short_s: see ``short_epochs``.
        seed: order and chance of everything.
        dev: sets to validate on, by name: packed corpora or JSON Lines manifests.
        test: sets to test on, likewise.
        predict: a manifest of recordings to write texts for.
        dev_budget_s: seconds of audio in a batch of these.
    """

    def __init__(
        self,
        sources: list[Source],
        tokenizer: str,
        watch: str | None = None,
        watch_repeat: float = 1.0,
        hours_on_device: float | None = None,
        buckets: list[float] | None = None,
        budget_s: float = 800.0,
        speed: float = 0.1,
        short_epochs: int = 1,
        short_s: float = 5.0,
        seed: int = 1,
        dev: dict[str, str] | None = None,
        test: dict[str, str] | None = None,
        predict: str | None = None,
        dev_budget_s: float = 400.0,
    ):
        super().__init__()
        if watch is not None and hours_on_device is None:
            raise TrainingError("data.watch needs data.hours_on_device: the memory that new corpora take turns in")
        self.tokenizer = read_tokenizer(tokenizer)
        self.hours_on_device = hours_on_device
        self.buckets = sorted(buckets or [2.56, 3.84, 5.76, 7.68, 10.88, 16.0])
        self.budget_s, self.speed, self.seed = budget_s, speed, seed
        self.short_epochs, self.short_s = short_epochs, short_s
        self.arrivals = Arrivals(sources, watch, watch_repeat, self._read)
        self._corpus: DeviceCorpus | None = None
        self._recent: deque[tuple[int, Tensor]] = deque(maxlen=_REMEMBERED)
        self._held: list[tuple[Source, bool]] = []  # what the present epoch is made of, in order
        self._restored: list[tuple[Source, bool]] = []  # what it was made of when the checkpoint was written
        self.dev_sets, self.test_sets, self.predict_set, self.dev_budget_s = dev or {}, test or {}, predict, dev_budget_s

    def _read(self, source: Source) -> Part:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return read_part(source, self.tokenizer, max(self.buckets), rank, world)

    def corpus(self, device: torch.device) -> DeviceCorpus:
        """Everything that is ready by now; called between two epochs.

        Raises:
            TrainingError: nothing is, or it does not fit into the memory.
        """
        found = self._agreed(self.arrivals.find())
        first, restored = self._corpus is None, self._restored
        if self._corpus is None:
            self._corpus = DeviceCorpus(device, self.hours_on_device)
            self.arrivals.start(restored or found)
        came, gone = self._corpus.add(self.arrivals.take(None if first else self._agreed(self.arrivals.count_ready())))
        if not first or restored:
            self.arrivals.start([entry for entry in found if not first or entry not in restored])
        for source, _ in restored if first else []:
            if source not in [source for source, _ in came]:
                log.warning("%s is gone: this epoch goes on in another order than before the interruption", source.path)
        self._held = [entry for entry in self._held + came if entry[0] not in gone]
        if came:
            log.info("took in %s; dropped %s", [source.path for source, _ in came], [source.path for source in gone])
        if not self._corpus.parts:
            raise TrainingError("there is nothing to train on: check the paths of the packed corpora (data.sources, data.watch)")
        return self._corpus

    def _agreed(self, value: Any) -> Any:
        """The first rank's value, on all ranks; they find and finish reading at slightly different times."""
        return self.trainer.strategy.broadcast(value) if self.trainer is not None and self.trainer.world_size > 1 else value

    def utterances_of(self, step: int) -> list[str]:
        """The names of what was trained on in one of the last steps."""
        if self._corpus is None:
            return []
        return [self._corpus.name(int(i)) for at, utterances in self._recent if at == step for i in utterances]

    def state_dict(self) -> dict[str, Any]:
        return {"held": [(source.path, source.repeat, stay) for source, stay in self._held]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._restored = [(Source(path, repeat), stay) for path, repeat, stay in state_dict["held"]]

    def train_dataloader(self) -> DataLoader:
        if self.trainer is None:
            raise TrainingError("AsrData needs a trainer")
        trainer = self.trainer
        corpus = self.corpus(trainer.strategy.root_device)
        batches, taken = trainer.limit_train_batches, trainer.global_step * trainer.accumulate_grad_batches
        # counted in steps, since a checkpoint may have been written anywhere within an epoch
        epoch, skip = divmod(taken, batches) if isinstance(batches, int) else (trainer.current_epoch, taken)
        longest = max(self.short_s, self.buckets[0]) if epoch < self.short_epochs else self.buckets[-1]
        plan = Plan(
            corpus.seconds,
            corpus.repeat,
            corpus.owner,
            [b for b in self.buckets if b <= longest],
            self.budget_s,
            self.speed,
            (self.seed, epoch),
            trainer.global_rank,
            trainer.world_size,
            skip,
        )
        return DataLoader(plan, batch_size=None)

    def _measured(self, sets: dict[str, str]) -> list[DataLoader]:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        loaders = []
        for name, path in sets.items():
            data = DevSet(path, self.dev_budget_s, rank, world)
            for problem in data.skipped:
                log.warning("%s: skipped: %s", name, problem)
            if data.skipped:
                log.warning("%s: %d recordings skipped, %d left", name, len(data.skipped), len(data.utterances))
            loaders.append(DataLoader(data, batch_size=None))
        return loaders

    def val_dataloader(self) -> Any:
        return self._measured(self.dev_sets)

    def test_dataloader(self) -> Any:
        if not self.test_sets:
            raise TrainingError("there is nothing to test on: give data.test, a name and a path for each set")
        return self._measured(self.test_sets)

    def predict_dataloader(self) -> Any:
        if self.predict_set is None:
            raise TrainingError("there is nothing to write texts for: give data.predict, a manifest of recordings")
        return self._measured({"predict": self.predict_set})

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if isinstance(batch, DevBatch):
            return batch
        if self._corpus is None:
            raise TrainingError("a batch arrived before its corpus was loaded")
        if self.trainer is not None:
            self._recent.append((self.trainer.global_step, batch.utterances))
        return batch.utterances, batch.speed, batch.samples, self._corpus.most_labels(batch.utterances.numpy())

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if isinstance(batch, DevBatch):
            return batch
        if self._corpus is None:
            raise TrainingError("a batch arrived before its corpus was loaded")
        index, speed, samples, most = batch
        return self._corpus.batch(index, samples, speed, most)


def read_tokenizer(path: str) -> Tokenizer:
    """A sentencepiece model.

    Raises:
        TrainingError: it cannot be used.
    """
    try:
        return Tokenizer.from_file(Path(path))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise TrainingError(f"the tokenizer {path} cannot be used: {reason}; a bundle's tokenizer.model will do") from None


__all__ = ["AsrData", "Batch", "DeviceCorpus", "Plan", "Source"]
