"""Recordings with a manifest of riverrun's own layout: ``python -m riverrun.recipes.corpora.manifest --source DIR --out corpus``.

Layout: ``manifest.jsonl``, whose lines hold ``id``, ``audio`` (relative to it), ``text``, and if known ``lang``, ``speaker``, and
``duration`` in seconds; all other keys are kept. ``--held-out-last`` and ``--held-out-speakers`` say what is not for training.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import CorpusError
from .files import read_lines
from .reader import Reader, Recorded, Skipped


class OwnLayout(Reader):
    """See the module."""

    name = "manifest"
    title = "recordings with a manifest"
    licence = "see its source"
    url = "its source"
    splits = ("all", "train", "dev")

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """See `Reader.add_options`."""
        parser.add_argument("--held-out-last", type=int, default=0, metavar="N", help="the last N lines are the split dev")
        parser.add_argument("--held-out-speakers", nargs="+", default=[], metavar="NAME", help="these speakers are the split dev")
        parser.add_argument("--lang", default="en", help="language of lines that do not say it (default: %(default)s)")

    def read(self, split: str) -> Iterator[Recorded | Skipped]:
        """See `Reader.read`."""
        manifest = self.find("manifest.jsonl", "manifest")
        lines = [(number, line) for number, line in enumerate(read_lines(manifest), 1) if line.strip()]
        if split != "all" and not self.options.held_out_last and not self.options.held_out_speakers:
            raise CorpusError(f"{self.folder} has no splits of its own; give --held-out-last or --held-out-speakers, or --split all")
        for place, (number, line) in enumerate(lines):
            where = f"{manifest.name}, line {number}"
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                yield Skipped(where, f"it is no JSON ({error.msg.lower()} at column {error.colno})")
                continue
            one = self._recorded(manifest, where, row)
            late = place >= len(lines) - self.options.held_out_last
            speaker = one.speaker if isinstance(one, Recorded) else None
            if split == "all" or (late or speaker in self.options.held_out_speakers) == (split == "dev"):
                yield one

    def _recorded(self, manifest: Path, where: str, row: Any) -> Recorded | Skipped:
        if not isinstance(row, dict) or not all(isinstance(row.get(key), str) and row[key] for key in ("id", "audio")):
            return Skipped(where, 'it is no object {"id": …, "audio": …, "text": …}')
        seconds = row.get("duration")
        if not isinstance(row.get("text", ""), str | None) or not isinstance(seconds, int | float | None):
            return Skipped(row["id"], "its text or duration is of the wrong type")
        extra = {key: value for key, value in row.items() if key not in ("id", "audio", "text", "lang", "speaker", "duration")}
        folder = self.relative(manifest.parent)
        audio = (Path(folder) / row["audio"]).as_posix()
        return Recorded(
            row["id"], audio, row.get("text") or "", row.get("lang") or self.options.lang, row.get("speaker"), seconds=seconds, extra=extra
        )


if __name__ == "__main__":
    from .command import main

    sys.exit(main(OwnLayout))
