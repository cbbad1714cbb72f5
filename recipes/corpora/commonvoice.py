"""Common Voice: ``python -m riverrun.recipes.corpora.commonvoice --source cv-corpus-17.0-2024-03-15/nl --split train --out corpus``.

Layout: a table for each split (``train.tsv``, ``dev.tsv`` …), whose columns vary with the release but hold ``client_id``, ``path``,
``sentence``, ``up_votes`` and ``down_votes``; ``clips/*.mp3``; in later releases ``clip_durations.tsv`` in milliseconds. The folder is
named after the language where the table does not say it. Clips with as many votes against as for them are left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from .errors import CorpusError
from .files import read_lines
from .reader import Reader, Recorded, Skipped

_NEEDED = ("client_id", "path", "sentence", "up_votes", "down_votes")
_KEPT = {"age": "age", "gender": "gender", "accents": "accent", "accent": "accent", "variant": "variant"}


class CommonVoice(Reader):
    """See the module."""

    name = "commonvoice"
    title = "Common Voice"
    licence = "CC0"
    url = "https://commonvoice.mozilla.org/datasets"
    splits = ("train", "dev", "test", "validated", "other", "invalidated")

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """See `Reader.add_options`."""
        parser.add_argument("--lang", help="language code (default: the table's, or the folder's name)")

    def read(self, split: str) -> Iterator[Recorded | Skipped]:
        """See `Reader.read`."""
        table = self.find(f"{split}.tsv", "table of the split")
        lengths = self._lengths(table.with_name("clip_durations.tsv"))
        header, *lines = (line.split("\t") for line in read_lines(table))
        if missing := [column for column in _NEEDED if column not in header]:
            raise CorpusError(f'{table} has no column "{missing[0]}"; its columns are {", ".join(header)}')
        for number, columns in enumerate(lines, 2):
            if len(columns) != len(header):
                yield Skipped(f"{table.name}, line {number}", f"it has {len(columns)} columns, not {len(header)}")
                continue
            row = dict(zip(header, columns, strict=True))
            name = row["path"] if Path(row["path"]).suffix else f"{row['path']}.mp3"
            id = Path(name).stem
            if Path(name).name != name:
                yield Skipped(id, "its path leads out of the folder of clips")
            elif split in ("train", "dev", "test", "validated") and not self._valid(row):
                yield Skipped(id, f"its votes are {row['up_votes']} for, {row['down_votes']} against it")
            else:
                extra = {key: row[column] for column, key in _KEPT.items() if row.get(column)}
                lang = self.options.lang or row.get("locale") or table.parent.name
                audio = self.relative(table.parent / "clips" / name)
                yield Recorded(id, audio, row["sentence"], lang, row["client_id"], seconds=lengths.get(name), extra=extra)

    @staticmethod
    def _valid(row: dict[str, str]) -> bool:
        try:
            return int(row["up_votes"]) > int(row["down_votes"])
        except ValueError:
            return False

    @staticmethod
    def _lengths(table: Path) -> dict[str, float]:
        if not table.exists():
            return {}
        rows = [line.split("\t") for line in read_lines(table)[1:]]
        return {row[0]: int(row[1]) / 1000 for row in rows if len(row) == 2 and row[1].isdecimal()}


if __name__ == "__main__":
    from .command import main

    sys.exit(main(CommonVoice))
