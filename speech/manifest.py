"""Manifests: JSON Lines, one recording a line.

A line is ``{"id": …, "audio": …, "text": …}`` with optional ``"duration"`` (seconds) and any further keys, which are
kept. ``id`` is distinct within a manifest; ``audio`` is a path relative to the manifest's folder, or absolute.
Empty lines are skipped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class ManifestError(ValueError):
    """A manifest that cannot be read; the message names the file, the line and what is wrong."""


@dataclass(frozen=True)
class Entry:
    """One recording: ``audio`` as a usable path, ``duration`` in seconds if known, ``extra`` all other keys."""

    id: str
    audio: Path
    text: str
    duration: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def read_manifest(path: str | Path) -> list[Entry]:
    """Read all entries.

    Raises:
        ManifestError: no such file, not UTF-8, no entries, or broken lines: the first is explained, the others are counted.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError:
        raise ManifestError(f"{path}: no such manifest; check the path") from None
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path}: not UTF-8 at byte {error.start}; convert it to UTF-8") from None
    except OSError as error:
        raise ManifestError(f"{path}: {(error.strerror or str(error)).lower()}; give a JSONL file that can be read") from None
    entries: dict[str, tuple[int, Entry]] = {}
    broken: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            entry = _entry(line, path.parent)
            if entry.id in entries:
                raise ManifestError(f'id "{entry.id}" stands on line {entries[entry.id][0]} already')
            entries[entry.id] = number, entry
        except ManifestError as error:
            broken.append(f"line {number}: {error}")
    if broken:
        more = f" (and {len(broken) - 1} more broken lines)" if len(broken) > 1 else ""
        raise ManifestError(f"{path}: {broken[0]}{more}")
    if not entries:
        raise ManifestError(f'{path}: no entries; every line is to be {{"id": …, "audio": …, "text": …}}')
    return [entry for _, entry in entries.values()]


def write_manifest(path: str | Path, entries: Iterable[Entry]) -> None:
    """Write entries under a temporary name, then rename. Audio within the manifest's folder is written relative to it."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            for entry in entries:
                file.write(json.dumps(_record(entry, path.parent.resolve()), ensure_ascii=False, allow_nan=False) + "\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _entry(line: str, folder: Path) -> Entry:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise ManifestError(f"not JSON ({error.msg.lower()} at column {error.colno})") from None
    if not isinstance(record, dict):
        raise ManifestError('not an object {"id": …, "audio": …, "text": …}')
    for key in ("id", "audio", "text"):
        if not isinstance(record.get(key), str):
            raise ManifestError(f'"{key}" is {"no text" if key in record else "missing"}')
        if not record[key] and key != "text":
            raise ManifestError(f'"{key}" is empty')
    duration = record.get("duration")
    if duration is not None and (not isinstance(duration, int | float) or isinstance(duration, bool) or not 0 <= duration < float("inf")):
        raise ManifestError('"duration" is no number of seconds')
    extra = {key: value for key, value in record.items() if key not in ("id", "audio", "text", "duration")}
    return Entry(record["id"], folder / record["audio"], record["text"], duration, extra)


def _record(entry: Entry, folder: Path) -> dict[str, Any]:
    audio = entry.audio.resolve()
    place = audio.relative_to(folder) if audio.is_relative_to(folder) else audio
    record = {"id": entry.id, "audio": place.as_posix(), "text": entry.text}
    return record | ({} if entry.duration is None else {"duration": entry.duration}) | entry.extra
