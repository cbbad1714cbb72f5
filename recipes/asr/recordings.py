"""Corpora to train or measure on: packed ones, and plain recordings listed in a manifest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from riverrun.speech.audio import AudioError, read_audio
from riverrun.speech.manifest import read_manifest

from ..corpora.packed import PackedCorpus, Utterance


class Corpus(Protocol):
    """Utterances with audio; ``skipped`` names what could not be used, and why."""

    skipped: list[str]

    def __iter__(self) -> Iterator[Utterance]: ...

    def samples_of(self, utterance: Utterance) -> npt.NDArray[np.int16]:
        """The utterance's audio at 16 kHz."""
        ...


class Recordings:
    """The recordings of a JSON Lines manifest, decoded into memory; a file that cannot be read is skipped and named.

    Raises:
        ManifestError: the manifest itself cannot be used.
        AudioError: none of its recordings can be read; the first is explained.
    """

    def __init__(self, manifest: Path):
        self.skipped: list[str] = []
        self._utterances: list[Utterance] = []
        self._audio: list[npt.NDArray[np.int16]] = []
        at = 0
        for entry in read_manifest(manifest):
            try:
                audio = (read_audio(entry.audio) * 32768).round().clip(-32768, 32767).astype(np.int16)
            except AudioError as error:
                self.skipped.append(str(error))
                continue
            self._utterances.append(Utterance(entry.text, at, len(audio), {"id": entry.id}))
            self._audio.append(audio)
            at += len(audio)
        if not self._audio:
            raise AudioError(f"{manifest}: none of its {len(self.skipped)} recordings can be read; the first: {self.skipped[0]}")
        self.audio = np.concatenate(self._audio)

    def __iter__(self) -> Iterator[Utterance]:
        return iter(self._utterances)

    def samples_of(self, utterance: Utterance) -> npt.NDArray[np.int16]:
        """The utterance's audio at 16 kHz."""
        return self.audio[utterance.start : utterance.start + utterance.samples]


def is_there(path: str) -> bool:
    """Whether ``path`` is a manifest, or a packed corpus that is complete."""
    return Path(path).is_file() or (Path(path) / "manifest.jsonl").exists()


def open_corpus(path: str) -> Corpus:
    """A packed corpus (a folder) or recordings (a JSON Lines manifest).

    Raises:
        ValueError: it cannot be used; subclasses say why.
    """
    return Recordings(Path(path)) if Path(path).is_file() else PackedCorpus(Path(path))
