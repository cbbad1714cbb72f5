"""Sentence pairs as their publishers lay them out: Multi30k (line-aligned files per split) and Tatoeba (a table with tabs)."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .text import transcript


class PairError(ValueError):
    """Text of pairs that is missing or broken; the message names the file."""


@dataclass(frozen=True)
class Pair:
    """A sentence, its translation, and where they stand (``train/17`` is the 17th pair of the training split)."""

    place: str
    source: str
    target: str


class PairSource(Protocol):
    """A collection of English sentences with translations.

    Attributes:
        name: of the collection.
        licence: what its publisher says; kept in ``about.json``.
        url: where it comes from.
        splits: names; those beside "train" measure and are never trained on.
    """

    name: str
    licence: str
    url: str
    splits: tuple[str, ...]

    def pairs(self, split: str) -> Iterator[Pair]:
        """The pairs of one split, as published.

        Raises:
            PairError: a file is missing or broken.
        """
        ...


class Multi30k:
    """Image captions (Elliott et al. 2016, "Multi30K: Multilingual English-German Image Descriptions").

    ``folder`` holds ``train.en``, ``train.de``, ``val.en`` …, plain or gzipped, itself or in ``data/task1/raw`` as the publisher's
    repository.
    """

    name = "multi30k"
    licence = "research use only: the captions describe Flickr30k images, whose owners keep their rights"
    url = "https://github.com/multi30k/dataset"
    splits = ("train", "val", "test_2016_flickr", "test_2017_flickr")

    def __init__(self, folder: Path, target: str):
        self.folder, self.target = folder, target

    def pairs(self, split: str) -> Iterator[Pair]:
        """See `PairSource.pairs`."""
        sources, targets = (self._read(split, language) for language in ("en", self.target))
        if len(sources) != len(targets):
            raise PairError(f"{self.folder}: {split}.en has {len(sources)} lines and {split}.{self.target} has {len(targets)}")
        for number, (source, target) in enumerate(zip(sources, targets, strict=True), 1):
            yield Pair(f"{split}/{number}", source, target)

    def _read(self, split: str, language: str) -> list[str]:
        for place in (self.folder, self.folder / "data/task1/raw"):
            for file in (place / f"{split}.{language}", place / f"{split}.{language}.gz"):
                if file.is_file():
                    return read_lines(file)
        raise PairError(f"{self.folder} has no {split}.{language} (nor {split}.{language}.gz), itself or in data/task1/raw")


class Tatoeba:
    """Short sentences by volunteers (tatoeba.org).

    Args:
        table: columns ``en, target``; ``en, target, attribution``; or ``id, en, id, target`` as exported by tatoeba.org.
        target: language of the translations.
        held_out: share of the English sentences, chosen by their hash, that make up each of the two splits for measuring.
    """

    name = "tatoeba"
    licence = "CC-BY 2.0 France"
    url = "https://tatoeba.org"
    splits = ("train", "val", "test")

    def __init__(self, table: Path, target: str, held_out: float = 0.01):
        if not 0 <= held_out < 0.5:
            raise PairError(f"the share held out must be 0 to 0.5, not {held_out:g}")
        self.table, self.target, self.held_out = table, target, held_out

    def pairs(self, split: str) -> Iterator[Pair]:
        """See `PairSource.pairs`."""
        for number, line in enumerate(read_lines(self.table), 1):
            columns = line.split("\t")
            if len(columns) not in (2, 3, 4):
                raise PairError(f"{self.table}, line {number} has {len(columns)} columns; 2 (en, {self.target}), 3 or 4 are known")
            source, target = columns[1::2] if len(columns) == 4 else columns[:2]
            if self._split(source) == split:
                yield Pair(f"{split}/{number}", source, target)

    def _split(self, source: str) -> str:
        """All translations of a sentence lie in one split, and a larger table leaves it there."""
        share = int.from_bytes(hashlib.sha256(transcript(source).encode()).digest()[:8]) / 2**64
        return "val" if share < self.held_out else "test" if share < 2 * self.held_out else "train"


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file, gzipped or not.

    Raises:
        PairError: it cannot be read.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return content.decode("utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise PairError(f"{path}: not UTF-8 at byte {error.start}; convert it to UTF-8") from None
    except (OSError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise PairError(f"{path}: {reason.lower()}") from None
