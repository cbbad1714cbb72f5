"""MuST-C: ``python -m riverrun.recipes.corpora.mustc --source MUSTC_v1.0_en-de --target de --split tst-COMMON --out corpus``.

Layout (Di Gangi et al. 2019): ``en-de/data/<split>/wav/<talk>.wav`` at 16 kHz, and in ``en-de/data/<split>/txt`` three files in step:
``<split>.yaml``, a list of segments (``wav``, ``offset`` and ``duration`` in seconds, ``speaker_id``), ``<split>.en`` and ``<split>.de``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from .errors import CorpusError
from .files import read_lines
from .reader import Reader, Recorded, Skipped, tidy

_NOTES = re.compile(r"\([^()]*\)|\[[^][]*\]")  # "(Applause)"


class MustC(Reader):
    """See the module."""

    name = "mustc"
    title = "MuST-C"
    licence = "CC-BY-NC-ND 4.0"
    url = "https://mt.fbk.eu/must-c"
    splits = ("train", "dev", "tst-COMMON", "tst-HE")
    sample_rate = 16000

    @classmethod
    def add_options(cls, parser: argparse.ArgumentParser) -> None:
        """See `Reader.add_options`."""
        parser.add_argument("--target", required=True, metavar="LANG", help="language of the translations, for instance de")

    def read(self, split: str) -> Iterator[Recorded | Skipped]:
        """See `Reader.read`."""
        target = self.options.target
        folder = self.find(f"data/{split}/txt", "texts of the split")
        segments = _segments(folder / f"{split}.yaml")
        sources, targets = (read_lines(folder / f"{split}.{language}") for language in ("en", target))
        if not len(segments) == len(sources) == len(targets):
            raise CorpusError(f"{folder}: {len(segments)} segments, {len(sources)} English lines and {len(targets)} translations")
        counts = dict[str, int]()
        for number, (segment, source, translation) in enumerate(zip(segments, sources, targets, strict=True), 1):
            try:
                talk, start, seconds = str(segment["wav"]), float(segment["offset"]), float(segment["duration"])
            except (TypeError, KeyError, ValueError):
                yield Skipped(f"{split}.yaml, segment {number}", "it does not say wav, offset and duration")
                continue
            name = Path(talk).stem
            counts[name] = counts.get(name, -1) + 1
            id = f"{name}_{counts[name]}"
            if Path(talk).name != talk:
                yield Skipped(id, "its file lies outside of the folder of talks")
            elif not any(map(str.isalnum, _NOTES.sub("", source))):
                yield Skipped(id, "it has no words, only notes")
            elif not translation.strip():
                yield Skipped(id, "it has no translation")
            else:
                extra = {"translation": tidy(translation), "target_lang": target, "talk": name}
                audio, speaker = self.relative(folder.parent / "wav" / talk), segment.get("speaker_id")
                yield Recorded(id, audio, source, "en", None if speaker is None else str(speaker), start, seconds, extra)


def _segments(path: Path) -> list[Any]:
    try:
        # libyaml's loader is ten times as fast, where PyYAML was built with it
        segments = yaml.load("\n".join(read_lines(path)), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  # safe
    except yaml.YAMLError as error:
        raise CorpusError(f"{path}: {' '.join(str(error).split())}") from None
    if not isinstance(segments, list):
        raise CorpusError(f"{path} is no list of segments")
    return segments


if __name__ == "__main__":
    from .command import main

    sys.exit(main(MustC))
