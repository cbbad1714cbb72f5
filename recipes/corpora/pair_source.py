"""What a collection of sentence pairs is: English sentences with translations, in splits, as their publisher lays them out."""

from __future__ import annotations

import argparse
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar


@dataclass(frozen=True)
class Pair:
    """A sentence, its translation, and where they stand (``train/17`` is the 17th pair of the training split)."""

    place: str
    source: str
    target: str


class PairSource(ABC):
    """One collection on disk; a small class for each publisher's layout.

    Attributes:
        name: of the collection.
        title: as its publisher calls it.
        licence: as its publisher states it; kept in ``about.json``.
        url: where it comes from.
        layout: what ``--source`` is to be.
        splits: names; those beside "train" measure and are never trained on.
        many: whether a sentence has several translations; then a split that measures keeps the first.

    Args:
        source: file or folder.
        target: language of the translations.
        options: of the command; see `add_options`.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    licence: ClassVar[str]
    url: ClassVar[str]
    layout: ClassVar[str]
    splits: ClassVar[tuple[str, ...]]
    many: ClassVar[bool] = False

    def __init__(self, source: Path, target: str, options: argparse.Namespace):
        self.source, self.target, self.options = source, target, options

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """Add the collection's own options to a command."""

    @abstractmethod
    def pairs(self, split: str) -> Iterator[Pair]:
        """The pairs of one split, as published.

        Raises:
            CorpusError: a file is missing or broken.
        """
