"""What a synthesiser is to the corpus: text and a voice in, samples and word times out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..errors import CorpusError
from .packages import PACKAGES


class SynthesisError(CorpusError):
    """A sentence that could not be spoken, or an engine that is not there; the message says why."""


class TimedWord(NamedTuple):
    """A word, or a few that the engine runs together ("of the"), with its start and end in seconds."""

    word: str
    start: float
    end: float


@dataclass(frozen=True)
class Speech:
    """What an engine said: mono int16 ``samples``; ``words``, and ``spoken``, the words as read, where the engine tells."""

    samples: np.ndarray
    sample_rate: int
    words: list[TimedWord] | None
    spoken: str | None = None


@dataclass(frozen=True)
class Voice:
    """One voice of one engine.

    Attributes:
        id: distinct name, kept in the manifest; hold-outs are chosen by it.
        engine: a key of `speaker.ENGINES`.
        name: the engine's own name of the voice.
        pitch: mean fundamental frequency as heard, Hz (not espeak, kokoro, piper).
        spread: its standard deviation, Hz (flite, festival).
        warp: formant factor: the audio is played this much slower or faster, with rate and pitch set against it.
        alpha: frequency warping of flite's vocoder, for voices that have one.
        weight: how often the voice speaks, relative to the others of its engine.
        variant: an espeak voice variant file's text, for voices of our own making.
    """

    id: str
    engine: str
    name: str
    pitch: float = 0.0
    spread: float = 0.0
    warp: float = 1.0
    alpha: float | None = None
    weight: float = 1.0
    variant: str | None = None


@dataclass(frozen=True)
class Style:
    """How one sentence is said: factors on the voice's rate, pitch, pitch range and formants, drawn anew for each sentence."""

    rate: float = 1.0
    pitch: float = 1.0
    range: float = 1.0
    warp: float = 1.0
    alpha: float = 0.0


class Engine(Protocol):
    """A synthesiser in this process or behind a pipe; not shared between processes."""

    def __init__(self, root: Path, voices: list[Voice], scratch: Path) -> None: ...

    def speak(self, text: str, voice: Voice, style: Style) -> Speech:
        """Say one sentence. Raises SynthesisError; a native engine may also crash or hang, which is the driver's to survive."""
        ...

    def close(self) -> None:
        """Let go of processes and files."""
        ...


def find_library(root: Path, name: str, engine: str) -> Path:
    """The shared library ``name`` under ``root``/usr/lib.

    Raises:
        SynthesisError: it is not there; the message names the engine's packages.
    """
    for folder in (root / "usr/lib", *sorted((root / "usr/lib").glob("*-linux-gnu*"))):
        if (folder / name).exists():
            return folder / name
    raise _lacking(root, f"usr/lib/{name}", engine)


def find_file(root: Path, name: str, engine: str) -> Path:
    """The file ``root``/``name``.

    Raises:
        SynthesisError: it is not there; the message names the engine's packages.
    """
    if (root / name).exists():
        return root / name
    raise _lacking(root, name, engine)


def _lacking(root: Path, name: str, engine: str) -> SynthesisError:
    packages = " ".join(PACKAGES[engine])
    return SynthesisError(f"{root} has no {name}: {engine} needs the Debian packages {packages}; or leave it out with --engines")


def known_voices(voices: Collection[Voice], names: Collection[str]) -> None:
    """Check that the engine's own names are among those that something is known of.

    Raises:
        SynthesisError: one is not.
    """
    for voice in voices:
        if voice.name not in names:
            raise SynthesisError(f'the voice "{voice.id}" has the name "{voice.name}"; {voice.engine} has {" ".join(sorted(names))}')


def declare(library: Any, name: str, result: Any, *arguments: Any) -> None:
    """Give a function of a ctypes library its result and argument types."""
    function = getattr(library, name)
    function.restype, function.argtypes = result, arguments
