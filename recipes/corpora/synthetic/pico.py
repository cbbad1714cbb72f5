"""SVOX Pico through ctypes and ``native/pico.c``: an American and a British voice at 16 kHz, which tell no word times."""

from __future__ import annotations

import ctypes as c
from pathlib import Path

import numpy as np

from .compiler import native_library
from .engine import Speech, Style, SynthesisError, Voice, declare, find_file, find_library, known_voices

# Language and speaker of the lingware, and the speaker's own mean fundamental frequency in Hz, as measured.
_LINGWARE = {"en-US": ("lh0", 168.0), "en-GB": ("kh0", 176.0)}
_PITCH_LEVELS, _SPEED_LEVELS = (50, 200), (20, 500)  # percent
_LONGEST_S, _SAMPLE_RATE = 60, 16000


class Pico:
    """An `Engine`. The range of its pitch cannot be set."""

    def __init__(self, root: Path, voices: list[Voice], scratch: Path) -> None:
        known_voices(voices, _LINGWARE)
        c.CDLL(str(find_library(root, "libttspico.so.0", "pico")), mode=c.RTLD_GLOBAL)
        self._library = c.CDLL(str(native_library("pico", root, scratch)))
        declare(self._library, "riverrun_open", c.c_void_p, c.c_char_p, c.c_char_p)
        declare(self._library, "riverrun_speak", c.c_int, c.c_void_p, c.c_char_p, c.c_void_p, c.c_int)
        self._engines = {name: self._open(root, name) for name in sorted({voice.name for voice in voices})}
        self._samples = np.empty(_LONGEST_S * _SAMPLE_RATE, np.int16)

    def _open(self, root: Path, name: str) -> int:
        speaker, _ = _LINGWARE[name]
        files = [find_file(root, f"usr/share/pico/lang/{name}_{part}.bin", "pico") for part in ("ta", f"{speaker}_sg")]
        engine: int | None = self._library.riverrun_open(*(str(file).encode() for file in files))
        if engine is None:
            raise SynthesisError(f"SVOX Pico does not start with the lingware in {files[0].parent}")
        return engine

    def speak(self, text: str, voice: Voice, style: Style) -> Speech:
        """See `Engine.speak`. Pitch and rate are set by marks in the text."""
        _, own = _LINGWARE[voice.name]
        pitch = np.clip(100 * voice.pitch * style.pitch / style.warp / own, *_PITCH_LEVELS)
        speed = np.clip(100 * style.rate / style.warp, *_SPEED_LEVELS)
        safe = text.replace("<", " ").replace(">", " ")
        marked = f'<speed level="{speed:.0f}"><pitch level="{pitch:.0f}">{safe}</pitch></speed>'
        count = self._library.riverrun_speak(self._engines[voice.name], marked.encode(), self._samples.ctypes.data, len(self._samples))
        if count < 0:
            raise SynthesisError("SVOX Pico refused the text")
        return Speech(self._samples[:count].copy(), _SAMPLE_RATE, None)

    def close(self) -> None:
        """Nothing to do: the library lives as long as its process."""
