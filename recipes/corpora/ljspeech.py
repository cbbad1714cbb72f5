"""LJ Speech 1.1: ``python -m riverrun.recipes.corpora.ljspeech --source LJSpeech-1.1 --out corpus``.

Layout: ``metadata.csv`` with ``id|text|text with numbers written out``, and ``wavs/<id>.wav`` at 22,050 Hz. Its publisher makes no splits;
here the chapters LJ049 and LJ050, the last, are for development and test.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from .files import read_lines
from .reader import Reader, Recorded, Skipped


class LjSpeech(Reader):
    """See the module."""

    name = "ljspeech"
    title = "LJ Speech"
    licence = "public domain"
    url = "https://keithito.com/LJ-Speech-Dataset"
    splits = ("train", "dev", "test", "all")
    sample_rate = 22050
    digests = {"LJSpeech-1.1.tar.bz2": "md5:c4763be9595ddfa79c2fc6eaeb3b6c8e"}

    def read(self, split: str) -> Iterator[Recorded | Skipped]:
        """See `Reader.read`."""
        table = self.find("metadata.csv", "table of texts")
        for number, line in enumerate(read_lines(table), 1):
            id, *texts = line.split("|")
            chapter = id.partition("-")[0]
            if split != "all" and split != {"LJ049": "dev", "LJ050": "test"}.get(chapter, "train"):
                continue
            if len(texts) != 2:
                yield Skipped(id, f"line {number} of {table.name} has {1 + len(texts)} columns, not 3")
                continue
            extra = {"written": texts[0]} if texts[0] != texts[1] else {}
            yield Recorded(id, self.relative(table.parent / "wavs" / f"{id}.wav"), texts[1], "en", "lj", extra=extra)


if __name__ == "__main__":
    from .command import main

    sys.exit(main(LjSpeech))
