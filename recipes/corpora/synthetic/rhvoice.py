"""RHVoice 1.8 through ctypes and ``native/rhvoice.c``: statistical voices at 24 kHz with word events."""

from __future__ import annotations

import ctypes as c
from pathlib import Path

import numpy as np

from .compiler import native_library
from .engine import Speech, Style, SynthesisError, TimedWord, Voice, declare, find_library, known_voices

# The voices' own mean fundamental frequency in Hz, as measured: pitch is set relative to it.
_PITCH = {"Alan": 135.0, "Bdl": 121.0, "Clb": 179.0, "Slt": 174.0}
# The full bandwidth; rates by the vocoder's own means, without libsonic, which would make the word events wrong.
_SETTINGS = "quality=max\nmin_sonic_rate=5\n"
_LONGEST_S, _SAMPLE_RATE = 60, 24000
_UNKNOWN_CLIENT = 2


class _Word(c.Structure):
    _fields_ = [("position", c.c_uint), ("length", c.c_uint), ("start", c.c_int), ("end", c.c_int)]


class _Recording(c.Structure):
    _fields_ = [
        ("samples", c.c_void_p), ("words", c.POINTER(_Word)), ("sample_capacity", c.c_int), ("word_capacity", c.c_int),
        ("sample_count", c.c_int), ("word_count", c.c_int), ("sample_rate", c.c_int),
    ]  # fmt: skip


class RHVoice:
    """An `Engine`. The range of its pitch cannot be set."""

    def __init__(self, root: Path, voices: list[Voice], scratch: Path) -> None:
        known_voices(voices, _PITCH)
        for name in ("libsonic.so.0", "libRHVoice_core.so.7", "libRHVoice.so.5"):
            c.CDLL(str(find_library(root, name, "rhvoice")), mode=c.RTLD_GLOBAL)
        self._library = c.CDLL(str(native_library("rhvoice", root, scratch)))
        declare(self._library, "riverrun_open", c.c_void_p, c.c_char_p, c.c_char_p)
        declare(self._library, "riverrun_speak", c.c_int, c.c_void_p, c.c_char_p, c.c_char_p, c.c_double, c.c_double, c.POINTER(_Recording))
        settings = scratch / "rhvoice"
        settings.mkdir(exist_ok=True)
        (settings / "RHVoice.conf").write_text(_SETTINGS, encoding="ascii")
        data = root / "usr/share/RHVoice"
        self._engine = self._library.riverrun_open(str(data).encode(), str(settings).encode())
        if not self._engine:
            raise SynthesisError(f"RHVoice does not start with the data in {data}")
        self._samples = np.empty(_LONGEST_S * _SAMPLE_RATE, np.int16)

    def speak(self, text: str, voice: Voice, style: Style) -> Speech:
        """See `Engine.speak`."""
        pitch = voice.pitch * style.pitch / style.warp / _PITCH[voice.name]
        words = (_Word * (len(text) + 1))()
        recording = _Recording(self._samples.ctypes.data, words, len(self._samples), len(words))
        status = self._library.riverrun_speak(
            self._engine, text.encode(), voice.name.encode(), style.rate / style.warp, pitch, c.byref(recording)
        )
        if status == _UNKNOWN_CLIENT:
            raise SynthesisError("this RHVoice is not version 1.8, whose word times are known; leave the engine out with --engines")
        if status:
            raise SynthesisError("RHVoice refused the text")
        rate, spoken = recording.sample_rate, words[: recording.word_count]
        following = [*(word.start for word in spoken[1:]), recording.sample_count]
        times = [
            TimedWord(
                text[word.position : word.position + word.length], word.start / rate, (word.end if word.end >= 0 else next_start) / rate
            )
            for word, next_start in zip(spoken, following, strict=True)
        ]
        return Speech(self._samples[: recording.sample_count].copy(), rate, times)

    def close(self) -> None:
        """Nothing to do: the library lives as long as its process."""
