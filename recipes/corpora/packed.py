"""Packed corpora: a folder of raw int16 files at 16 kHz and a manifest that says where each utterance lies.

A manifest line holds ``audio`` (a raw file beside it), ``offset`` (bytes), ``samples``, ``text``, and whatever else its
maker kept (``id``, ``voice``, ``words`` …). Millions of small files become a few large ones, read by memory map.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SAMPLE_RATE = 16000


@dataclass(frozen=True)
class Utterance:
    """One utterance of a packed corpus; ``start`` and ``samples`` index its audio, ``row`` is the manifest line."""

    text: str
    start: int
    samples: int
    row: dict[str, Any]


class PackedCorpus:
    """A packed corpus in memory.

    Attributes:
        audio: all raw files in one int16 array.
        skipped: what was left out, one line each: the manifest's line number and the reason.

    Raises:
        ValueError: the folder holds no manifest, or nothing that can be used.
    """

    def __init__(self, folder: Path):
        manifest = folder / "manifest.jsonl"
        if not manifest.is_file():
            raise ValueError(f"{folder} is no packed corpus: it has no manifest.jsonl")
        self.skipped: list[str] = []
        self._utterances: list[Utterance] = []
        parts: dict[str, tuple[np.memmap, int]] = {}
        total = 0
        with manifest.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    row = json.loads(line)
                    name, offset, samples, text = row["audio"], row["offset"], row["samples"], row["text"]
                    if Path(name).name != name:
                        raise ValueError(f"the raw file {name!r} must lie beside the manifest")
                    if name not in parts:
                        part = np.memmap(folder / name, np.int16, "r")
                        parts[name] = part, total
                        total += len(part)
                    part, base = parts[name]
                    if offset % 2 or not 0 < samples <= len(part) - offset // 2:
                        raise ValueError(f"its {samples} samples at byte {offset} do not lie in {name}")
                except (ValueError, KeyError, TypeError, OSError) as error:
                    self.skipped.append(f"line {number}: {error}")
                    continue
                self._utterances.append(Utterance(text, base + offset // 2, samples, row))
        if not self._utterances:
            raise ValueError(f"{manifest} holds no usable utterance" + (f"; first problem: {self.skipped[0]}" if self.skipped else ""))
        self.audio = np.concatenate([part for part, _ in parts.values()])

    def __len__(self) -> int:
        return len(self._utterances)

    def __iter__(self) -> Iterator[Utterance]:
        return iter(self._utterances)

    def samples_of(self, utterance: Utterance) -> np.ndarray:
        """The utterance's audio, int16."""
        return self.audio[utterance.start : utterance.start + utterance.samples]


class PackWriter:
    """Write a packed corpus: raw file first, manifest renamed into place by `close`, so that a reader never sees half of one."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._raw = (folder / "audio.raw").open("wb")
        self._rows = (folder / "manifest.jsonl.part").open("w", encoding="utf-8")

    def add(self, samples: np.ndarray, row: dict[str, Any]) -> None:
        """Append int16 samples at 16 kHz with their manifest row (``text`` and anything worth keeping)."""
        place = {"audio": "audio.raw", "offset": self._raw.tell(), "samples": len(samples)}
        self._raw.write(samples.astype(np.int16).tobytes())
        self._rows.write(json.dumps({**row, **place}, ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Finish the corpus."""
        self._raw.close()
        self._rows.close()
        Path(self._rows.name).replace(self.folder / "manifest.jsonl")
