"""espeak-ng through ctypes: formant voices with word and phoneme events (speak_lib.h of espeak-ng 1.51)."""

from __future__ import annotations

import ctypes as c
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .engine import Speech, Style, SynthesisError, TimedWord, Voice, declare, find_library

_SYNCHRONOUS, _PHONEME_EVENTS, _CHARS_UTF8 = 2, 0x0001 | 0x8000, 1
_WORD, _END, _PHONEME = 1, 5, 7
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4


class _Identifier(c.Union):
    _fields_ = [("number", c.c_int), ("name", c.c_char_p), ("string", c.c_char * 8)]


class _NativeEvent(c.Structure):
    _fields_ = [
        ("type", c.c_int), ("unique", c.c_uint), ("text_position", c.c_int), ("length", c.c_int), ("audio_position", c.c_int),
        ("sample", c.c_int), ("user_data", c.c_void_p), ("id", _Identifier),
    ]  # fmt: skip


_Callback = c.CFUNCTYPE(c.c_int, c.POINTER(c.c_short), c.c_int, c.POINTER(_NativeEvent))


class _Event(NamedTuple):
    kind: int
    character: int
    sample: int
    pause: bool


class Espeak:
    """An `Engine`. Voice variants of our own are laid in a private data folder, so that the installed one is never written to."""

    def __init__(self, root: Path, voices: list[Voice], scratch: Path) -> None:
        self._library, self._rate = open_library(root, voices, scratch)
        declare(
            self._library, "espeak_Synth", c.c_int, c.c_char_p, c.c_size_t, c.c_uint, c.c_int, c.c_uint, c.c_uint, c.c_void_p, c.c_void_p
        )
        self._pcm: list[bytes] = []
        self._events: list[_Event] = []
        self._callback = _Callback(self._collect)
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self._pcm.append(c.string_at(samples, 2 * count))
        index = 0
        while events[index].type:
            event = events[index]
            if event.type in (_WORD, _END, _PHONEME):
                phoneme = bytes(event.id.string) if event.type == _PHONEME else b"_"
                if phoneme:
                    self._events.append(_Event(event.type, event.text_position - 1, event.sample, phoneme.startswith(b"_")))
            index += 1
        return 0

    def speak(self, text: str, voice: Voice, style: Style) -> Speech:
        """See `Engine.speak`. espeak sets pitch and range on scales of 0 to 100, rate in words a minute."""
        set_voice(self._library, voice.name)
        settings = {
            _RATE: np.clip(168 * style.rate / style.warp, 90, 300), _VOLUME: 60,
            _PITCH: np.clip(50 + 160 * (style.pitch - 1), 25, 75), _RANGE: np.clip(50 * style.range, 25, 80),
        }  # fmt: skip
        for parameter, value in settings.items():
            self._library.espeak_SetParameter(parameter, int(value), 0)
        self._pcm, self._events = [], []
        encoded = text.encode()
        if self._library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _CHARS_UTF8, None, None):
            raise SynthesisError("espeak-ng refused the text")
        samples = np.frombuffer(b"".join(self._pcm), np.int16)
        words = [TimedWord(word, a / self._rate, b / self._rate) for word, a, b in word_spans(text, self._events, len(samples))]
        return Speech(samples, self._rate, words)

    def close(self) -> None:
        """Nothing to do: the library lives as long as its process."""


def open_library(root: Path, voices: list[Voice], scratch: Path) -> tuple[c.CDLL, int]:
    """The library, ready to be used, and its sample rate. A process has one: who shares it sets its voice each time.

    Raises:
        SynthesisError: it or its data are not there; the message names the packages.
    """
    path = find_library(root, "libespeak-ng.so.1", "espeak")
    for needed in (root / "stub/libpcaudio.so.0", path.parent / "libpcaudio.so.0", path.parent / "libsonic.so.0"):
        if needed.exists():
            c.CDLL(str(needed), mode=c.RTLD_GLOBAL)
    library = c.CDLL(str(path))
    data = _private_data(path.parent / "espeak-ng-data", voices, scratch)
    rate = library.espeak_Initialize(_SYNCHRONOUS, 0, str(data).encode(), _PHONEME_EVENTS)
    if rate <= 0:
        raise SynthesisError(f"espeak-ng does not start with the data in {path.parent}")
    return library, rate


def set_voice(library: c.CDLL, name: str) -> None:
    """Choose a voice, with a variant after "+".

    Raises:
        SynthesisError: there is none of this name.
    """
    if library.espeak_SetVoiceByName(name.encode()):
        raise SynthesisError(f"espeak-ng has no voice {name}")


def word_spans(text: str, events: list[_Event], length: int) -> Iterator[tuple[str, int, int]]:
    """Words with first and last sample, from espeak's events.

    A token without an event (espeak runs "of the" together) joins the one before it. A word ends where the next begins, or at a pause
    that lasts until then.
    """
    starts = [event for event in events if event.kind == _WORD]
    words: list[tuple[str, int]] = []
    for token in re.finditer(r"\S+", text):
        mine = 0
        while mine < len(starts) and starts[mine].character < token.end():
            mine += 1
        if mine or not words:
            words.append((token[0], starts[0].sample if mine else 0))
        else:
            words[-1] = (f"{words[-1][0]} {token[0]}", words[-1][1])
        del starts[:mine]
    for (word, start), following in zip(words, [*(start for _, start in words[1:]), length], strict=True):
        within = [event for event in events if event.kind in (_PHONEME, _END) and start <= event.sample <= following]
        spoken = max((event.sample for event in within if not event.pause and event.sample < following), default=start)
        yield word, start, min((event.sample for event in within if event.pause and event.sample > spoken), default=following)


def _private_data(installed: Path, voices: list[Voice], scratch: Path) -> Path:
    """A folder that holds ``espeak-ng-data``: links to what is installed, and beside the installed variants those of ``voices``."""
    data = scratch / "espeak-ng-data"
    if not data.exists():
        variants = data / "voices/!v"
        variants.mkdir(parents=True)
        for source in installed.iterdir():
            if source.name != "voices":
                (data / source.name).symlink_to(source.resolve())
        for source in installed.glob("voices/!v/*"):
            (variants / source.name).symlink_to(source.resolve())
        for voice in voices:
            if voice.variant is not None:
                file = variants / voice.name.rpartition("+")[2]
                file.unlink(missing_ok=True)
                file.write_text(voice.variant, encoding="ascii")
    return scratch
