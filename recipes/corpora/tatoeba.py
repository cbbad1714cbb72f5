"""Tatoeba, spoken: ``python -m riverrun.recipes.corpora.tatoeba --source en-de.tsv --target de --split train --out corpus``.

Short English sentences with translations by volunteers. Layout: a table with tabs between its columns, ``en, target``;
``en, target, attribution``; or ``id, en, id, target`` as tatoeba.org exports it. Its publisher makes no splits: a share of the English
sentences, chosen by their hash, is held out for each of val and test.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

from .errors import CorpusError
from .files import read_lines
from .pair_source import Pair, PairSource
from .text import transcript


class Tatoeba(PairSource):
    """See the module."""

    name = "tatoeba"
    title = "Tatoeba"
    licence = "CC-BY 2.0 France"
    url = "https://tatoeba.org"
    layout = "table of tab-separated columns"
    splits = ("train", "val", "test")
    many = True

    def __init__(self, source: Path, target: str, options: argparse.Namespace):
        super().__init__(source, target, options)
        self._share: float = options.held_out_share
        if not 0 <= self._share < 0.5:
            raise CorpusError(f"the share held out must be at least 0 and less than 0.5, not {self._share:g}")

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """See `PairSource.add_options`."""
        parser.add_argument(
            "--held-out-share", type=float, default=0.01, metavar="SHARE",
            help="share of Tatoeba's English sentences that makes up val, and as many test (default: %(default)s)",
        )  # fmt: skip

    def pairs(self, split: str) -> Iterator[Pair]:
        """See `PairSource.pairs`."""
        for number, line in enumerate(read_lines(self.source), 1):
            columns = line.split("\t")
            if len(columns) not in (2, 3, 4):
                raise CorpusError(f"{self.source}, line {number} has {len(columns)} columns; 2 (en, {self.target}), 3 or 4 are known")
            source, target = columns[1::2] if len(columns) == 4 else columns[:2]
            if self._split(source) == split:
                yield Pair(f"{split}/{number}", source, target)

    def _split(self, source: str) -> str:
        """All translations of a sentence lie in one split, and a larger table leaves it there."""
        chance = int.from_bytes(hashlib.sha256(transcript(source).encode()).digest()[:8]) / 2**64
        return "val" if chance < self._share else "test" if chance < 2 * self._share else "train"


if __name__ == "__main__":
    from .spoken import main

    sys.exit(main(Tatoeba))
