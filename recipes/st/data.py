"""Batches of speech with transcripts and translations, gathered on the accelerator."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from riverrun.speech.tokenizer import Tokenizer

from ..asr.corpus import Batch, DeviceCorpus, Part, Source
from ..asr.data import AsrData
from ..asr.plan import Planned
from ..corpora.packed import SAMPLE_RATE
from .pairs import PairBatch, PairPart, PairReader, Table

log = logging.getLogger(__name__)

_WIDTH_STEP = 8
_ANY = 1 << 30


class StData(AsrData):
    """Batches for `StModule`: those of `AsrData`, each with translations.

    A batch has room for ``labels_per_second`` target labels for each second of its bucket, so that its shapes follow from the bucket
    alone; what has more labels than its length leaves room for goes into a longer bucket.

    Args:
        sources: packed corpora whose rows carry ``translation`` and ``target_lang``; see `AsrData` for this and the next three.
        tokenizer: path of the target's sentencepiece model.
        source_tokenizer: path of the source's.
        languages: target languages.
        watch: see `AsrData`.
        watch_repeat: see `AsrData`.
        hours_on_device: see `AsrData`.
        buckets: batch lengths in seconds.
        budget_s: seconds of audio per batch and device.
        speed: largest relative change of playing speed in training.
        short_epochs: epochs at the beginning that hold only utterances up to ``short_s`` seconds.
        short_s: see ``short_epochs``.
        labels_per_second: room for target labels.
        dev: a packed corpus to validate, test and predict on.
        dev_batch: utterances of it that are translated together.
        seed: order and chance of everything.
    """

    def __init__(
        self,
        sources: list[Source],
        tokenizer: str,
        source_tokenizer: str,
        languages: tuple[str, ...] = ("de",),
        watch: str | None = None,
        watch_repeat: float = 1.0,
        hours_on_device: float | None = None,
        buckets: list[float] | None = None,
        budget_s: float = 800.0,
        speed: float = 0.1,
        short_epochs: int = 0,
        short_s: float = 5.0,
        labels_per_second: float = 8.0,
        dev: str | None = None,
        dev_batch: int = 64,
        seed: int = 1,
    ):
        super().__init__(
            sources, source_tokenizer, watch, watch_repeat, hours_on_device, buckets, budget_s, speed, short_epochs, short_s, seed
        )
        self.target, self.languages = Tokenizer.from_file(Path(tokenizer)), tuple(languages)
        self.labels_per_second, self.dev, self.dev_batch = labels_per_second, dev, dev_batch
        self._reader = PairReader(self.tokenizer, self.target, self.languages, max(self.buckets), self._room(max(self.buckets)))
        self._held_parts: list[PairPart] = []
        self._targets: Table
        self._languages: Tensor
        self._dev: tuple[DeviceCorpus, Table, PairPart] | None = None

    def _room(self, seconds: float) -> int:
        """Target labels that a bucket of this length has room for; with the boundary before them they make a multiple of 8."""
        return -(-math.floor(seconds * self.labels_per_second + 1) // _WIDTH_STEP) * _WIDTH_STEP - 1

    def _read(self, source: Source) -> Part:
        rank, world = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return self._reader.read(source, rank, world)

    def corpus(self, device: torch.device) -> DeviceCorpus:
        """Everything that is ready by now, with its translations.

        Raises:
            ValueError: nothing is, or it does not fit into the memory.
        """
        corpus = super().corpus(device)
        parts = [part for part in corpus.parts if isinstance(part, PairPart)]
        if list(map(id, parts)) != list(map(id, self._held_parts)):
            self._held_parts = parts
            self._targets = Table([(part.targets, part.target_counts) for part in parts], device)
            self._languages = torch.from_numpy(np.concatenate([part.languages for part in parts])).to(device)
        # a bucket is chosen by length: at least as long as it takes to leave room for the translation
        room = [self._room(bucket) for bucket in self.buckets]
        by_audio, by_labels = np.searchsorted(self.buckets, corpus.seconds), np.searchsorted(room, self._targets.lengths)
        corpus.seconds = np.where(by_labels > by_audio, np.take(self.buckets, by_labels), corpus.seconds)
        return corpus

    def on_before_batch_transfer(self, batch: Planned | Tensor, dataloader_idx: int) -> tuple[Tensor, Tensor, int, int] | Tensor:
        return super().on_before_batch_transfer(batch, dataloader_idx) if isinstance(batch, Planned) else batch

    def on_after_batch_transfer(self, batch: tuple[Tensor, Tensor, int, int] | Tensor, dataloader_idx: int) -> PairBatch | DevPairs:
        if isinstance(batch, Tensor):
            return self._dev_pairs(batch)
        heard: Batch = super().on_after_batch_transfer(batch, dataloader_idx)
        index, _, samples, _ = batch
        targets, counts = self._targets.rows(index, self._room(samples / SAMPLE_RATE))
        return PairBatch(*heard, targets, counts, self._languages[index])

    def _dev_pairs(self, index: Tensor) -> DevPairs:
        if self._dev is None:
            raise ValueError("a batch arrived before its corpus was loaded")
        corpus, targets, part = self._dev
        index = index.to(corpus.device)
        at = index.cpu().numpy()
        samples = int(part.samples[at].max()) + 1
        heard = corpus.batch(index, samples, torch.ones(len(index), device=corpus.device), corpus.most_labels(at))
        languages = torch.from_numpy(part.languages).to(corpus.device)[index]
        labels, counts = targets.rows(index, int(targets.lengths[at].max()))
        return DevPairs(PairBatch(*heard, labels, counts, languages), [part.references[i] for i in at])

    def _dev_batches(self) -> DataLoader:
        if self.dev is None or self.trainer is None:
            raise ValueError("there is nothing to measure on: give data.dev, a packed corpus with translations")
        if self._dev is None:
            corpus = DeviceCorpus(self.trainer.strategy.root_device)
            part = replace(self._reader, longest_s=math.inf, most_labels=_ANY).read(Source(self.dev))
            if part.left_out:
                log.warning("%s: %d utterances without a translation that is wanted, %d left", self.dev, part.left_out, len(part.samples))
            corpus.add([(part, True)])
            self._dev = corpus, Table([(part.targets, part.target_counts)], corpus.device), part
        slices = Slices(len(self._dev[2].samples), self.dev_batch, self.trainer.global_rank, self.trainer.world_size)
        return DataLoader(slices, batch_size=None)

    def val_dataloader(self) -> DataLoader | list[DataLoader]:
        return [] if self.dev is None else self._dev_batches()

    def test_dataloader(self) -> DataLoader:
        return self._dev_batches()

    def predict_dataloader(self) -> DataLoader:
        return self._dev_batches()


class DevPairs(NamedTuple):
    """A batch to be measured on, and what its translations should be."""

    pairs: PairBatch
    references: list[str]


class Slices(IterableDataset):
    """The numbers 0 to ``count`` - 1, ``size`` at a time: every ``world``-th batch, beginning with that of ``rank``."""

    def __init__(self, count: int, size: int, rank: int = 0, world: int = 1):
        self.count, self.size, self.rank, self.world = count, size, rank, world

    def __iter__(self) -> Iterator[Tensor]:
        for first in range(self.rank * self.size, self.count, self.world * self.size):
            yield torch.arange(first, min(first + self.size, self.count))
