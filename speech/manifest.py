"""Manifests: JSON Lines, one recording a line; to lhotse's manifests and back.

A line is ``{"id": …, "audio": …, "text": …}`` with optional ``"duration"`` (seconds) and any further keys, which are
kept. ``id`` is distinct within a manifest; ``audio`` is a path relative to the manifest's folder, or absolute.
Empty lines are skipped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_LHOTSE_FIELDS = {"lang": "language", "speaker": "speaker", "gender": "gender"}


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


def write_lhotse(folder: str | Path, entries: Iterable[Entry]) -> None:
    """Write entries as lhotse manifests: ``recordings``, ``supervisions`` and ``cuts``, each ``.jsonl.gz``; needs the extra ``lhotse``.

    Ids are those of the entries. ``lang``, ``speaker`` and ``gender`` become lhotse's own fields, ``words`` (``[word, start s, end s]``)
    its alignment "word", all other keys custom fields. Durations are those of the files.

    Raises:
        ManifestError: lhotse is not installed, or a file cannot be read.
    """
    lhotse = _lhotse()
    from lhotse.supervision import AlignmentItem

    recordings, supervisions = [], []
    for entry in entries:
        try:
            recording = lhotse.Recording.from_file(entry.audio.resolve(), recording_id=entry.id)
        except Exception as error:  # lhotse's readers raise errors of any kind
            raise ManifestError(f"{entry.audio}: cannot be read ({str(error).splitlines()[0] if str(error) else error!r})") from None
        extra = dict(entry.extra)
        words = [AlignmentItem(word, start, round(end - start, 6)) for word, start, end in extra.pop("words", [])]
        known = {field: extra.pop(key, None) for key, field in _LHOTSE_FIELDS.items()}
        recordings.append(recording)
        supervisions.append(
            lhotse.SupervisionSegment(
                id=entry.id,
                recording_id=entry.id,
                start=0.0,
                duration=recording.duration,
                channel=recording.channel_ids if recording.num_channels > 1 else 0,
                text=entry.text,
                alignment={"word": words} if words else None,
                custom=extra or None,
                **known,
            )
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sets = {
        "recordings": lhotse.RecordingSet.from_recordings(recordings),
        "supervisions": lhotse.SupervisionSet.from_segments(supervisions),
    }
    sets["cuts"] = lhotse.CutSet.from_manifests(**sets)
    for name, manifest in sets.items():
        temporary = folder / f".{name}.{os.getpid()}.part.jsonl.gz"
        try:
            manifest.to_file(temporary)
            temporary.replace(folder / f"{name}.jsonl.gz")
        finally:
            temporary.unlink(missing_ok=True)


def read_lhotse(path: str | Path) -> list[Entry]:
    """Entries of lhotse manifests, the way back of `write_lhotse`; needs the extra ``lhotse``.

    Raises:
        ManifestError: as `lhotse_cuts`, or a supervision is but a part of its recording, or not of a plain file.
    """
    entries = []
    for cut in lhotse_cuts(path):
        source = lhotse_source(cut)
        if isinstance(source, str):
            raise ManifestError(f"{path}: {cut.supervisions[0].id}: {source}")
        if cut.start > 0 or abs(cut.duration - cut.recording.duration) > 0.01:
            raise ManifestError(
                f"{path}: {cut.supervisions[0].id} is a part of the recording {cut.recording_id}; make a packed corpus of it instead "
                "(python -m riverrun.recipes.corpora.lhotse)"
            )
        text, extra = lhotse_texts(cut)
        entries.append(Entry(cut.supervisions[0].id, source, text, round(cut.duration, 3), extra))
    return entries


def lhotse_cuts(path: str | Path) -> Iterator[Any]:
    """Cuts of one supervision each, from lhotse manifests.

    Args:
        path: a file of cuts; or a folder with such a file, or with one of recordings and one of supervisions, whose names hold
            "cuts", "recordings", "supervisions" and end in ``.jsonl`` or ``.jsonl.gz``.

    Raises:
        ManifestError: lhotse is not installed, or there are no such files.
    """
    lhotse = _lhotse()
    path = Path(path)
    if path.is_dir():
        names = [file for suffix in (".jsonl", ".jsonl.gz") for file in sorted(path.glob(f"*{suffix}"))]
        found = {kind: [file for file in names if kind in file.name] for kind in ("cuts", "recordings", "supervisions")}
    else:
        found = {"cuts": [path] if path.is_file() else [], "recordings": [], "supervisions": []}
    if several := next((files for files in found.values() if len(files) > 1), None):
        raise ManifestError(f"{path} has both {several[0].name} and {several[1].name}; name a file of cuts")
    try:
        if found["cuts"]:
            cuts = lhotse.CutSet.from_file(found["cuts"][0])
        elif found["recordings"] and found["supervisions"]:
            recordings, supervisions = found["recordings"][0], found["supervisions"][0]
            cuts = lhotse.CutSet.from_manifests(lhotse.RecordingSet.from_file(recordings), lhotse.SupervisionSet.from_file(supervisions))
        else:
            raise ManifestError(f"{path}: no lhotse manifests; give a file of cuts, or a folder with cuts, or recordings and supervisions")
        yield from cuts.trim_to_supervisions(keep_overlapping=False)
    except (OSError, KeyError, TypeError, AssertionError, EOFError, json.JSONDecodeError) as error:
        raise ManifestError(f"{path}: not lhotse's ({error!r})") from None


def lhotse_source(cut: Any) -> Path | str:
    """The audio file of a cut of `lhotse_cuts`, all of whose channels it takes; or why it has none."""
    if not hasattr(cut, "recording"):
        return "it is mixed of several recordings"
    sources = cut.recording.sources
    if len(sources) != 1 or sources[0].type != "file":
        return f'its audio is no single file, but of type "{sources[0].type}"'
    if cut.recording.transforms:
        return "its recording is transformed; save its audio first"
    if cut.num_channels != cut.recording.num_channels:
        return "it is some channels of several; save its audio first"
    return Path(sources[0].source)


def lhotse_texts(cut: Any) -> tuple[str, dict[str, Any]]:
    """The text of a cut of `lhotse_cuts` and the further keys of its `Entry`; lhotse's arrays are left out."""
    segment = cut.supervisions[0]
    extra = {key: getattr(segment, field) for key, field in _LHOTSE_FIELDS.items() if getattr(segment, field) is not None}
    if segment.alignment and "word" in segment.alignment:
        words = segment.alignment["word"]
        extra["words"] = [[word.symbol, round(word.start, 3), round(word.start + word.duration, 3)] for word in words]
    custom = {key: value for key, value in (segment.custom or {}).items() if isinstance(value, str | int | float | list | dict | None)}
    return segment.text or "", extra | custom


def _lhotse() -> Any:
    try:
        import lhotse
    except ImportError:
        raise ManifestError("lhotse manifests need lhotse: pip install 'riverrun[lhotse]'") from None
    return lhotse
