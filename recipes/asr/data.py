"""Training data that lives on the accelerator: packed int16 audio, batched by length with few distinct shapes.

Hours of 16 kHz speech fit a GPU's memory (115 MB an hour), so a batch is one gather there: no decoding, no copies,
no workers. Lengths are rounded up to a few sizes, since every new shape costs plans and compilations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytorch_lightning as lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from riverrun.speech.tokenizer import Tokenizer

from ..corpora.packed import PackedCorpus, Utterance
from ..corpora.text import transcript


class Batch(NamedTuple):
    """Audio (B, N) float32 in [-1, 1], samples (B,), labels (B, U) padded with 0, label counts (B,)."""

    audio: Tensor
    samples: Tensor
    labels: Tensor
    counts: Tensor


@dataclass(frozen=True)
class Source:
    """One packed corpus and how often an epoch holds it."""

    path: str
    repeat: float = 1.0


class DeviceCorpus:
    """Utterances of packed corpora in one int16 tensor on ``device``.

    Args:
        tokenizer: text to labels.
        longest_s: utterances beyond it are left out, as are those with more labels than frames can hold.
        device: where the audio lies.
    """

    def __init__(self, tokenizer: Tokenizer, longest_s: float, device: torch.device):
        self.tokenizer, self.longest, self.device = tokenizer, int(longest_s * 16000), device
        self.audio = torch.zeros(0, dtype=torch.int16, device=device)
        self.start = self.samples = self.counts = torch.zeros(0, dtype=torch.long, device=device)
        self.labels = torch.zeros(0, 0, dtype=torch.long, device=device)
        self.repeat, self.seconds, self.label_counts = np.zeros(0), np.zeros(0), np.zeros(0, dtype=int)
        self.left_out = 0

    def add(self, source: Source) -> None:
        """Take in one packed corpus."""
        corpus = PackedCorpus(Path(source.path))
        start, samples, labels = [], [], []
        for utterance in corpus:
            ids = self.tokenizer.encode(transcript(utterance.text))
            if not self.take(utterance, ids):
                self.left_out += 1
                continue
            start.append(len(self.audio) + utterance.start)
            samples.append(utterance.samples)
            labels.append(torch.tensor(ids))

        def extend(old: Tensor, new: list[int]) -> Tensor:
            return torch.cat([old, torch.tensor(new, dtype=torch.long, device=self.device)])

        self.audio = torch.cat([self.audio, torch.from_numpy(corpus.audio).to(self.device)])
        self.start, self.samples = extend(self.start, start), extend(self.samples, samples)
        self.counts = extend(self.counts, [len(i) for i in labels])
        self.labels = torch.nn.utils.rnn.pad_sequence([*self.labels.cpu(), *labels], batch_first=True).to(self.device)
        self.repeat = np.append(self.repeat, np.full(len(samples), source.repeat))
        self.seconds = np.append(self.seconds, np.array(samples) / 16000)
        self.label_counts = np.append(self.label_counts, [len(i) for i in labels])

    def take(self, utterance: Utterance, ids: list[int]) -> bool:
        """Whether an utterance with these labels is of use; a corpus that holds more than transcripts takes in the rest here."""
        # CTC needs a frame of 40 ms per label, and playing speed shortens
        return bool(ids) and utterance.samples <= self.longest and len(ids) <= utterance.samples // 640 - 2

    def batch(self, index: Tensor, size: int, speed: Tensor, most: int | None = None) -> Batch:
        """Gather utterances ``index`` (B,) into ``size`` samples, played ``speed`` (B,) times as fast.

        ``most`` is the largest number of labels among them; whoever knows it spares a wait for the device.
        """
        index = index.to(self.audio.device)
        speed = torch.maximum(speed.to(self.audio.device), self.samples[index] / size)  # played too slowly, its end would be cut off
        position = torch.arange(size, device=self.audio.device) * speed[:, None]
        whole = position.floor()
        weight, whole = position - whole, whole.long()
        samples = (self.samples[index] / speed).floor().long().clamp(max=size) - 1
        where = (self.start[index, None] + whole).clamp(max=len(self.audio) - 2)
        audio = torch.lerp(self.audio[where].float(), self.audio[where + 1].float(), weight) / 32768
        audio = audio * (torch.arange(size, device=audio.device) < samples[:, None])
        counts = self.counts[index]
        return Batch(audio, samples, self.labels[index, : int(counts.max()) if most is None else most], counts)


class Plan(IterableDataset):
    """Endless shuffled batches of utterance numbers, each from one length bucket: ``(index (B,), samples)``.

    Args:
        seconds: (N,) durations.
        repeat: (N,) how often an epoch holds each utterance; fractions by chance.
        buckets: upper lengths in seconds; a batch is padded to its bucket.
        budget_s: seconds of audio in a batch, padding included.
        seed: order of everything.
        longest_s: leave out longer buckets.
    """

    def __init__(self, seconds: np.ndarray, repeat: np.ndarray, buckets: Sequence[float], budget_s: float, seed: int, longest_s: float):
        self.seconds, self.repeat, self.budget_s, self.seed = seconds, repeat, budget_s, seed
        self.buckets = [b for b in sorted(buckets) if b <= longest_s]

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        random = np.random.default_rng(self.seed)
        while True:
            batches = []
            copies = np.floor(self.repeat + random.random(len(self.repeat))).astype(int)
            order = random.permutation(np.repeat(np.arange(len(self.seconds)), copies))
            bucket = np.searchsorted(self.buckets, self.seconds[order])
            for i, length in enumerate(self.buckets):
                chosen = order[bucket == i]
                size = max(1, int(self.budget_s / length))
                batches += [(chosen[at : at + size], length) for at in range(0, len(chosen) - size + 1, size)]
            if not batches:
                raise ValueError("no full batch: use a smaller budget_s or more data")
            for at in random.permutation(len(batches)):
                chosen, length = batches[at]
                yield torch.from_numpy(chosen), math.ceil(length * 16000)


class AsrData(lightning.LightningDataModule):
    """Batches for `AsrModule`, gathered on its device.

    Args:
        sources: packed corpora to train on; one that does not exist yet is picked up at a later epoch.
        tokenizer: path of a sentencepiece model.
        buckets: batch lengths in seconds.
        budget_s: seconds of audio per batch.
        speed: largest relative change of playing speed in training.
        short_epochs: epochs at the beginning that hold only utterances up to ``short_s`` seconds.
        seed: order and chance of everything.
    """

    def __init__(
        self,
        sources: list[Source],
        tokenizer: str,
        buckets: list[float] | None = None,
        budget_s: float = 800.0,
        speed: float = 0.1,
        short_epochs: int = 1,
        short_s: float = 5.0,
        seed: int = 1,
    ):
        super().__init__()
        self.sources, self.tokenizer = sources, Tokenizer.from_file(Path(tokenizer))
        self.buckets = buckets or [2.5, 4.0, 6.0, 8.0, 11.0, 16.0]
        self.budget_s, self.speed, self.seed = budget_s, speed, seed
        self.short_epochs, self.short_s = short_epochs, short_s
        self._corpus: DeviceCorpus | None = None
        self._waiting = list(sources)

    def corpus(self, device: torch.device) -> DeviceCorpus:
        """Everything that exists by now.

        Raises:
            ValueError: nothing does.
        """
        if self._corpus is None:
            self._corpus = DeviceCorpus(self.tokenizer, max(self.buckets), device)
        for source in [s for s in self._waiting if (Path(s.path) / "manifest.jsonl").exists()]:
            self._corpus.add(source)
            self._waiting.remove(source)
        if not len(self._corpus.seconds):
            raise ValueError("there is nothing to train on: check the paths of the packed corpora")
        return self._corpus

    def train_dataloader(self) -> DataLoader:
        if self.trainer is None:
            raise ValueError("AsrData needs a trainer")
        epoch = self.trainer.current_epoch
        corpus = self.corpus(self.trainer.strategy.root_device)
        longest = self.short_s if epoch < self.short_epochs else max(self.buckets)
        plan = Plan(corpus.seconds, corpus.repeat, self.buckets, self.budget_s, self.seed + epoch, max(longest, min(self.buckets)))
        return DataLoader(plan, batch_size=None)

    def on_before_batch_transfer(self, batch: tuple[Tensor, int], dataloader_idx: int) -> tuple[Tensor, int, int]:
        if self._corpus is None:
            raise ValueError("a batch arrived before its corpus was loaded")
        index, size = batch
        return index, size, int(self._corpus.label_counts[index.numpy()].max())

    def on_after_batch_transfer(self, batch: tuple[Tensor, int, int], dataloader_idx: int) -> Batch:
        if self._corpus is None:
            raise ValueError("a batch arrived before its corpus was loaded")
        index, size, most = batch
        speed = torch.empty(len(index)).uniform_(1 - self.speed, 1 + self.speed)
        return self._corpus.batch(index, size, speed, most)
