"""What is to be spoken: sentences of a text file, or sentences with translations, which go with their clips into the manifest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..text import speakable
from .engine import SynthesisError

# Keys of a manifest row that say what was spoken and where it lies; see `worker.make_clip` and `part.Part.add`.
RESERVED = frozenset(
    ("id", "sentence", "speaker", "engine", "lang", "duration", "words", "rate", "warp", "audio", "offset", "samples")
)  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A sentence and what its manifest row is to hold besides, such as ``translation`` and ``target_lang``."""

    sentence: str
    extra: Mapping[str, Any] = field(default_factory=dict)


def read_text(path: Path) -> tuple[list[Line], int]:
    """Speakable sentences of a text file, one a line, and how many lines were left out.

    Raises:
        SynthesisError: the file cannot be read, or has none.
    """
    return _speakable(path, (Line(line) for _, line in _lines(path)))


def read_pairs(path: Path, target_lang: str | None) -> tuple[list[Line], int]:
    """Speakable sentences with their translations, and how many pairs were left out.

    Args:
        path: ``.jsonl``: objects with ``text``, ``translation``, ``target_lang`` and any further keys, all of which are kept;
            any other name: ``source TAB target`` lines.
        target_lang: language of the translations, where a line does not say it.

    Raises:
        SynthesisError: the file cannot be read, a line is no pair, or its language is not known; the message names the line.
    """
    read = _of_json if path.suffix == ".jsonl" else _of_columns

    def pairs() -> Iterator[Line]:
        for number, line in _lines(path):
            try:
                pair = read(line)
                language = pair.extra.get("target_lang", target_lang)
                if language is None:
                    raise SynthesisError("does not say its target language; give --target-lang")
                yield Line(pair.sentence, {**pair.extra, "target_lang": language})
            except SynthesisError as error:
                raise SynthesisError(f"{path}, line {number}: {error}") from None

    return _speakable(path, pairs())


def _of_columns(line: str) -> Line:
    columns = line.split("\t")
    if len(columns) != 2 or not columns[1].strip():
        raise SynthesisError("is no pair; a line is to hold a sentence, a tab and its translation")
    return Line(columns[0], {"translation": columns[1].strip()})


def _of_json(line: str) -> Line:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise SynthesisError(f"is no JSON ({error.msg.lower()} at column {error.colno})") from None
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in ("text", "translation")):
        raise SynthesisError('is no pair {"text": …, "translation": …, "target_lang": …}')
    if taken := RESERVED & row.keys():
        raise SynthesisError(f'has the key "{min(taken)}", which the spoken clip sets; rename it')
    return Line(row["text"], {key: value for key, value in row.items() if key != "text"})


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise SynthesisError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError as error:
        raise SynthesisError(f"{path}: {error}") from None
    yield from ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def _speakable(path: Path, lines: Iterable[Line]) -> tuple[list[Line], int]:
    given, kept = 0, []
    for line in lines:
        given += 1
        if (sentence := speakable(line.sentence)) is not None:
            kept.append(Line(sentence, line.extra))
    if not kept:
        raise SynthesisError(f"{path} has no sentence that can be spoken: one per line, without digits or symbols")
    return kept, given - len(kept)
