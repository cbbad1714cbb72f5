"""Packed corpora whose rows carry ``translation`` and ``target_lang``: speech, its transcript, and what is to be written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from riverrun.speech.tokenizer import Tokenizer

from ..asr.corpus import Part, Source, read_part
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


@dataclass(frozen=True)
class PairPart(Part):
    """A `Part` whose utterances have translations.

    Attributes:
        targets: target label ids of each utterance.
        languages: (n,) place of each translation's language among the model's.
        references: the translations as written.
    """

    targets: tuple[tuple[int, ...], ...]
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
        targets: list[tuple[int, ...]] = []
        languages: list[int] = []
        references: list[str] = []

        def take(utterance: Utterance) -> bool:
            text, language = utterance.row.get("translation"), utterance.row.get("target_lang")
            if not isinstance(text, str) or language not in self.languages:
                return False
            labels = self.target.encode(text)
            if not 0 < len(labels) <= self.most_labels:
                return False
            targets.append(tuple(labels))
            languages.append(self.languages.index(language))
            references.append(text)
            return True

        part = read_part(source, self.source, self.longest_s, rank, world, take)
        return PairPart(**vars(part), targets=tuple(targets), languages=np.array(languages), references=tuple(references))


class Table:
    """Label sequences of many utterances on the device, padded with 0, and their lengths on both sides.

    Attributes:
        labels: (N, most) on the device.
        counts: (N,) on the device.
        lengths: (N,) on the host.
    """

    def __init__(self, rows: Sequence[Sequence[int]], device: torch.device):
        self.lengths = np.array([len(row) for row in rows])
        table = np.zeros((len(rows), int(self.lengths.max(initial=0))), np.int64)
        table[np.arange(table.shape[1]) < self.lengths[:, None]] = np.fromiter((i for row in rows for i in row), np.int64)
        self.labels = torch.from_numpy(table).to(device)
        self.counts = torch.from_numpy(self.lengths).to(device)

    def rows(self, index: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Labels (B, width) and counts (B,) of rows ``index`` (B,), none of them longer than ``width``."""
        labels = self.labels[index, :width]
        return torch.nn.functional.pad(labels, (0, width - labels.shape[1])), self.counts[index]
