"""Training speech on the accelerator: int16 audio in one preallocated piece of memory, a batch is one gather.

Hours of 16 kHz speech fit a GPU's memory (115 MB an hour): no decoding, no copies, no workers. Corpora that come while
training runs take the place of the oldest of their kind once the memory is full.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from riverrun.speech.tokenizer import Tokenizer

from ..corpora.packed import SAMPLE_RATE, Utterance
from ..corpora.text import transcript
from .errors import TrainingError
from .recordings import open_corpus

_FRAME = 640  # samples of an encoder frame, 40 ms
_CHUNK = 2**24  # samples that go to the accelerator at a time
_LABEL_STEP = 8  # label counts of batches are rounded up to a multiple of it: fewer shapes


class Batch(NamedTuple):
    """Audio (B, N) float32 in [-1, 1], samples (B,), labels (B, U) padded with 0, label counts (B,)."""

    audio: Tensor
    samples: Tensor
    labels: Tensor
    counts: Tensor


@dataclass(frozen=True)
class Source:
    """A packed corpus (a folder) or recordings (a JSON Lines manifest), and how often an epoch holds it."""

    path: str
    repeat: float = 1.0


@dataclass(frozen=True)
class Part:
    """One packed corpus, read and tokenised; all arrays have a row for each utterance that can be used.

    Attributes:
        source: where it came from.
        audio: the audio of this rank's utterances, end to end, int16.
        owner: (n,) the rank that holds each.
        start: (n,) where each begins in ``audio`` of its owner.
        samples: (n,) lengths.
        labels: (n, U) label ids, padded with 0.
        counts: (n,) labels.
        names: what the corpus calls each.
        left_out: utterances too long, empty, or with more labels than frames.
        skipped: manifest lines that could not be used, each with its reason.
    """

    source: Source
    audio: npt.NDArray[np.int16]
    owner: npt.NDArray[np.int64]
    start: npt.NDArray[np.int64]
    samples: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    names: tuple[str, ...]
    left_out: int
    skipped: tuple[str, ...]


def read_part(
    source: Source,
    tokenizer: Tokenizer,
    longest_s: float,
    rank: int = 0,
    world: int = 1,
    take: Callable[[Utterance], bool] | None = None,
) -> Part:
    """Read a corpus. Of ``world`` ranks, ``rank`` keeps the audio of every ``world``-th utterance, and the texts of all.

    ``take`` is asked about every utterance that could be used, in the order of the part; what it refuses is left out.

    Raises:
        TrainingError: nothing of it can be used.
        ValueError: it cannot be read; subclasses say why.
    """
    corpus = open_corpus(source.path)
    pieces: list[npt.NDArray[np.int16]] = []
    start: list[int] = []
    samples: list[int] = []
    labels: list[list[int]] = []
    names: list[str] = []
    at = left_out = 0
    for utterance in corpus:
        ids = tokenizer.encode(transcript(utterance.text))
        # CTC needs a frame per label, and playing speed shortens
        unfit = not ids or utterance.samples > longest_s * SAMPLE_RATE or len(ids) > utterance.samples // _FRAME - 2
        if unfit or (take is not None and not take(utterance)):
            left_out += 1
            continue
        mine = len(samples) % world == rank
        start.append(at if mine else 0)
        samples.append(utterance.samples)
        labels.append(ids)
        names.append(str(utterance.row.get("id", f"number {len(names) + left_out}")))
        if mine:
            pieces.append(corpus.samples_of(utterance))
            at += utterance.samples
    if not pieces:
        raise TrainingError(f"{source.path} has nothing to train on: all {left_out} utterances are too long, too short or without text")
    counts = np.array([len(ids) for ids in labels])
    width = -(-counts.max() // _LABEL_STEP) * _LABEL_STEP
    table = np.zeros((len(labels), width), np.int64)
    table[np.arange(width) < counts[:, None]] = np.concatenate([np.array(ids) for ids in labels])
    owner = np.arange(len(samples)) % world
    audio, skipped = np.concatenate(pieces), tuple(corpus.skipped)
    return Part(source, audio, owner, np.array(start), np.array(samples), table, counts, tuple(names), left_out, skipped)


class _Place(NamedTuple):
    begin: int
    size: int
    stays: bool


class DeviceCorpus:
    """Utterances of packed corpora on ``device``.

    Attributes:
        seconds: (N,) durations of all utterances held, on the host.
        repeat: (N,) how often an epoch holds each.
        label_counts: (N,) labels of each.
        owner: (N,) the rank that holds each.

    Args:
        device: where the audio lies.
        hours: how much of it fits; None makes the memory as large as what is added.
    """

    def __init__(self, device: torch.device, hours: float | None = None):
        self.device, self.bounded = device, hours is not None
        self.audio = torch.zeros(int((hours or 0) * 3600 * SAMPLE_RATE), dtype=torch.int16, device=device)
        self.parts: list[Part] = []
        self._places: list[_Place] = []  # of each part
        self._head, self._floor = 0, len(self.audio)  # passing parts lie below the floor and follow one another in a ring
        self.start = self.samples = self.counts = self.labels = torch.zeros(0, dtype=torch.long, device=device)
        self.seconds, self.repeat, self.label_counts, self.owner = np.zeros(0), np.zeros(0), np.zeros(0, int), np.zeros(0, int)

    @property
    def hours(self) -> float:
        """Speech held on this device."""
        return sum(place.size for place in self._places) / 3600 / SAMPLE_RATE

    def add(self, parts: Iterable[tuple[Part, bool]]) -> tuple[list[tuple[Source, bool]], list[Source]]:
        """Take in parts, each with whether it stays for good, or goes when newer ones need its place.

        The audio of each is copied to the device in one go. Returns the sources that came, and those that had to go.

        Raises:
            TrainingError: a part does not fit into the memory beside those that stay.
        """
        came: list[tuple[Source, bool]] = []
        gone: list[Source] = []
        if not self.bounded:
            parts = list(parts)
            grown = torch.zeros(self._head + sum(len(part.audio) for part, _ in parts), dtype=torch.int16, device=self.device)
            grown[: self._head] = self.audio[: self._head]
            self.audio, self._floor = grown, len(grown)
        for part, stay in parts:
            at = self._room(len(part.audio), stay and self.bounded, gone, part.source.path)
            self._copy(part.audio, at)
            self.parts.append(replace(part, audio=part.audio[:0].copy()))
            self._places.append(_Place(at, len(part.audio), stay))
            came.append((part.source, stay))
        if came:
            self._index()
        return came, gone

    def _room(self, size: int, stay: bool, gone: list[Source], name: str) -> int:
        low = self._head if self._head + size <= self._floor else 0
        at = self._floor - size if stay else low
        if at < 0 or at + size > self._floor:
            room, kept, needed = (n / 3600 / SAMPLE_RATE for n in (len(self.audio), len(self.audio) - self._floor, size))
            raise TrainingError(
                f"{name} ({needed:.2f} h) does not fit into hours_on_device: {room:.2f}, of which {kept:.2f} h are taken for good"
            )
        if stay:
            self._floor = at
        else:
            self._head = at + size
        for i in reversed(range(len(self.parts))):
            place = self._places[i]
            if not place.stays and place.begin < at + size and place.begin + place.size > at:
                gone.append(self.parts[i].source)
                del self.parts[i], self._places[i]
        return at

    def _copy(self, audio: npt.NDArray[np.int16], at: int) -> None:
        if self.device.type != "cuda":
            self.audio[at : at + len(audio)] = torch.from_numpy(audio)
            return
        staging = [torch.empty(min(_CHUNK, len(audio)), dtype=torch.int16, pin_memory=True) for _ in range(2)]
        copied = [torch.cuda.Event() for _ in staging]
        for i, begin in enumerate(range(0, len(audio), _CHUNK)):
            piece = torch.from_numpy(audio[begin : begin + _CHUNK])
            copied[i % 2].synchronize()
            staging[i % 2][: len(piece)].copy_(piece)
            self.audio[at + begin : at + begin + len(piece)].copy_(staging[i % 2][: len(piece)], non_blocking=True)
            copied[i % 2].record()
        torch.cuda.synchronize(self.device)

    def _index(self) -> None:
        def whole(arrays: list[npt.NDArray]) -> Tensor:
            return torch.from_numpy(np.concatenate(arrays)).to(self.device)

        parts = self.parts
        width = max(part.labels.shape[1] for part in parts)
        self.start = whole([part.start + place.begin for part, place in zip(parts, self._places, strict=True)])
        self.samples = whole([part.samples for part in parts])
        self.counts = whole([part.counts for part in parts])
        self.labels = whole([np.pad(part.labels, ((0, 0), (0, width - part.labels.shape[1]))) for part in parts])
        self.repeat = np.concatenate([np.full(len(part.samples), part.source.repeat) for part in parts])
        self.seconds = np.concatenate([part.samples for part in parts]) / SAMPLE_RATE
        self.label_counts = np.concatenate([part.counts for part in parts])
        self.owner = np.concatenate([part.owner for part in parts])

    def name(self, utterance: int) -> str:
        """Where an utterance came from: its corpus and its name there."""
        for part in self.parts:
            if utterance < len(part.names):
                return f"{part.source.path}: {part.names[utterance]}"
            utterance -= len(part.names)
        raise IndexError("there is no such utterance")

    def most_labels(self, index: npt.NDArray[np.int64]) -> int:
        """Labels that a batch of these utterances needs room for, rounded up to a few sizes."""
        return min(-(-int(self.label_counts[index].max()) // _LABEL_STEP) * _LABEL_STEP, self.labels.shape[1])

    def batch(self, index: Tensor, size: int, speed: Tensor, most: int) -> Batch:
        """Gather utterances into a batch without waiting for the device.

        Args:
            index: (B,) utterances, on the device.
            size: samples of the batch.
            speed: (B,) how many times as fast each is played, on the device.
            most: room for labels, from `most_labels`.
        """
        speed = torch.maximum(speed, self.samples[index] / size)  # played too slowly, its end would be cut off
        time = torch.arange(size, device=self.device)
        position = time * speed[:, None]
        whole = position.floor()
        weight, whole = position - whole, whole.long()
        samples = (self.samples[index] / speed).floor().long().clamp(max=size) - 1
        where = (self.start[index, None] + whole).clamp(max=len(self.audio) - 2)
        audio = torch.lerp(self.audio[where].float(), self.audio[where + 1].float(), weight) / 32768
        return Batch(audio * (time < samples[:, None]), samples, self.labels[index, :most], self.counts[index])
