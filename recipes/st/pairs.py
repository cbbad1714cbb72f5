"""Packed corpora whose rows carry ``translation`` and ``target_lang``: speech, its transcript, and what is to be written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from riverrun.speech.tokenizer import Tokenizer

from ..asr.corpus import Batch, Part, Source, read_part
from ..corpora.packed import Utterance


class PairBatch(NamedTuple):
    """A batch of speech with two texts.

    Attributes:
        audio: (B, N) float32 in [-1, 1].
        samples: (B,) real samples.
        labels: (B, U) source labels, padded with 0.
        counts: (B,) source labels.
        targets: (B, W) target labels, padded with 0.
        target_counts: (B,) target labels.
        languages: (B,) place of the target language among the model's.
    """

    audio: Tensor
    samples: Tensor
    labels: Tensor
    counts: Tensor
    targets: Tensor
    target_counts: Tensor
    languages: Tensor

    @property
    def heard(self) -> Batch:
        """The speech and its transcripts."""
        return Batch(*self[:4])


@dataclass(frozen=True)
class PairPart(Part):
    """A `Part` whose utterances have translations.

    Attributes:
        targets: (n, W) target label ids, padded with 0.
        target_counts: (n,) target labels.
        languages: (n,) place of each translation's language among the model's.
        references: the translations as written.
    """

    targets: npt.NDArray[np.int32]
    target_counts: npt.NDArray[np.int64]
    languages: npt.NDArray[np.int64]
    references: tuple[str, ...]


@dataclass(frozen=True)
class PairReader:
    """Reads packed corpora of pairs.

    Attributes:
        source: tokenizer of transcripts.
        target: tokenizer of translations.
        languages: target languages that are wanted; rows of others are left out.
        longest_s: longest utterance.
        most_labels: most labels of a translation.
    """

    source: Tokenizer
    target: Tokenizer
    languages: tuple[str, ...]
    longest_s: float
    most_labels: int

    def read(self, source: Source, rank: int = 0, world: int = 1) -> PairPart:
        """Read a corpus; what cannot be used is left out and counted.

        Raises:
            ValueError: there is no packed corpus, or nothing of it can be used.
        """
        targets: list[list[int]] = []
        languages: list[int] = []
        references: list[str] = []

        def take(utterance: Utterance) -> bool:
            text, language = utterance.row.get("translation"), utterance.row.get("target_lang")
            if not isinstance(text, str) or language not in self.languages:
                return False
            labels = self.target.encode(text)
            if not 0 < len(labels) <= self.most_labels:
                return False
            targets.append(labels)
            languages.append(self.languages.index(language))
            references.append(text)
            return True

        part = read_part(source, self.source, self.longest_s, rank, world, take)
        table, counts = pad(targets)
        return PairPart(**vars(part), targets=table, target_counts=counts, languages=np.array(languages), references=tuple(references))


def pad(rows: Sequence[Sequence[int]]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """Label sequences as one array (n, longest) padded with 0, and their lengths (n,)."""
    counts = np.array([len(row) for row in rows], np.int64)
    table = np.zeros((len(rows), int(counts.max(initial=0))), np.int32)
    table[np.arange(table.shape[1]) < counts[:, None]] = np.fromiter((label for row in rows for label in row), np.int32)
    return table, counts


class Table:
    """Label sequences of many utterances on the device, padded with 0, and their lengths on both sides.

    Attributes:
        labels: (N, most) on the device.
        counts: (N,) on the device.
        lengths: (N,) on the host.

    Args:
        parts: arrays (n, W) of labels and (n,) of lengths, one after another.
        device: where batches are gathered.
    """

    def __init__(self, parts: Sequence[tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]], device: torch.device):
        width = max((table.shape[1] for table, _ in parts), default=0)
        tables = [torch.from_numpy(table).to(device).long() for table, _ in parts]
        self.labels = torch.cat([F.pad(table, (0, width - table.shape[1])) for table in tables])
        self.lengths = np.concatenate([counts for _, counts in parts])
        self.counts = torch.from_numpy(self.lengths).to(device)

    def rows(self, index: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Labels (B, width) and counts (B,) of rows ``index`` (B,), none of them longer than ``width``."""
        labels = self.labels[index, :width]
        return F.pad(labels, (0, width - labels.shape[1])), self.counts[index]
