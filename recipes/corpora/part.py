"""What one worker writes: raw audio and a JSON line for each clip, in step, so that a run that broke off can be taken up again."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np


class Part:
    """``audio-NNN.raw`` (int16), ``part-NNN.jsonl`` and ``left-NNN.jsonl`` of one worker, opened to go on after the last whole entry."""

    def __init__(self, folder: Path, index: int):
        self.audio = folder / f"audio-{index:03d}.raw"
        self._raw = self.audio.open("ab")
        fcntl.flock(self._raw, fcntl.LOCK_EX)  # a worker whose driver was killed may be at its last utterance still
        self._rows = folder / f"part-{index:03d}.jsonl"
        rows = whole_lines(self._rows)
        left = folder / f"left-{index:03d}.jsonl"
        whole_lines(left)  # cuts off half a line
        self._left = left.open("a", encoding="utf-8")
        size = max((row["offset"] + 2 * row["samples"] for row in rows), default=0)
        self._raw.truncate(size)
        self._offset = size
        self._lines = self._rows.open("a", encoding="utf-8")

    def __enter__(self) -> Part:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for file in (self._raw, self._lines, self._left):
            file.close()

    def add(self, samples: np.ndarray, row: dict[str, Any]) -> None:
        """Append a clip: audio first, so that a whole line always has its audio."""
        self._raw.write(np.ascontiguousarray(samples, "<i2").data)
        self._raw.flush()
        _append(self._lines, {**row, "audio": self.audio.name, "offset": self._offset, "samples": len(samples)})
        self._offset += 2 * len(samples)

    def leave(self, row: dict[str, Any]) -> None:
        """Append an utterance that could not be made."""
        _append(self._left, row)


def _append(file: Any, row: dict[str, Any]) -> None:
    file.write(json.dumps(row, ensure_ascii=False) + "\n")
    file.flush()


def whole_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file; a last one that was cut short is cut off the file too. A missing file has none."""
    return [json.loads(line) for line in whole_line_texts(path)]


def whole_line_texts(path: Path) -> list[str]:
    """The same as they are written."""
    if not path.exists():
        return []
    content = path.read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        with path.open("r+b") as file:
            file.truncate(end)
    return [line for line in content[:end].decode().split("\n") if line]
