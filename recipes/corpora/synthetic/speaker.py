"""Sentences to clips: a voice is drawn, speaks, is checked and rendered."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..text import transcript
from .engine import Engine, SynthesisError, Voice
from .espeak import Espeak
from .festival import Festival
from .flite import Flite
from .kokoro import Kokoro
from .pico import Pico
from .piper import Piper
from .render import SAMPLE_RATE, render
from .rhvoice import RHVoice
from .voices import Cast

ENGINES: Mapping[str, Callable[[Path, list[Voice], Path], Engine]] = {
    "espeak": Espeak, "festival": Festival, "flite": Flite, "kokoro": Kokoro, "pico": Pico, "piper": Piper, "rhvoice": RHVoice,
}  # fmt: skip
_ATTEMPTS = 3  # what one voice misreads or overflows at, another often says: a set for measuring should be whole
_CHARACTERS_PER_SECOND = (1.5, 35.0)
# Words that an engine respells to get a reading right.
_RESPELLED = {
    "reed": "read", "red": "read", "leed": "lead", "led": "lead", "liv": "live", "wined": "wind", "teer": "tear", "tare": "tear",
    "clows": "close", "kloz": "close",
}  # fmt: skip


@dataclass(frozen=True)
class Task:
    """A sentence to speak; ``id`` is distinct within a run and seeds everything that is random about its clip; ``extra`` joins its row."""

    id: int
    sentence: str
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shown(self) -> dict[str, Any]:
        """See `worker.Task`."""
        return {"sentence": self.sentence}


def same_words(spoken: str, sentence: str) -> bool:
    """Whether what was spoken is what is written, spaces, marks and respellings aside."""

    def letters(text: str) -> str:
        return re.sub("[^a-z]", "", " ".join(_RESPELLED.get(word, word) for word in re.findall("[a-z']+", text.lower())))

    return letters(spoken) == letters(sentence)


def make_clip(task: Task, cast: Cast, engines: Mapping[str, Engine], attempt: int = 0) -> tuple[np.ndarray, dict[str, Any]]:
    """Speak one sentence: int16 at 16 kHz, and its manifest row (without its place in a file). Each ``attempt`` draws a voice anew.

    The row's ``words`` are ``[word, start s, end s]`` and spell ``text``; an entry has two words where the engine runs them together.
    An engine that tells no times gives a row without ``words``.

    Raises:
        SynthesisError: the engine failed, spoke other words, or took an unlikely time.
    """
    rng = random.Random(f"{cast.seed}-{task.id}" + (f"-{attempt}" if attempt else ""))  # noqa: S311
    voice = rng.choices(cast.voices, [voice.weight for voice in cast.voices])[0]
    style = cast.style.draw(voice, rng)
    try:
        speech = engines[voice.engine].speak(task.sentence, voice, style)
        if speech.spoken is not None and not same_words(speech.spoken, task.sentence):
            raise SynthesisError(f"spoke other words: {speech.spoken}")
        clip, times = render(speech, style.warp, cast.rendering, rng)
        seconds = len(clip) / SAMPLE_RATE
        slowest, fastest = _CHARACTERS_PER_SECOND
        if seconds > cast.max_seconds or not slowest < len(task.sentence) / seconds < fastest:
            raise SynthesisError(f"{len(task.sentence)} characters took {seconds:.1f} s")
        text = transcript(task.sentence)
        words = None if times is None else [(word, start, end) for token, start, end in times if (word := transcript(token))]
        if words is not None and " ".join(word for word, _, _ in words) != text:
            raise SynthesisError("the word times do not spell the sentence")
    except SynthesisError as error:
        raise SynthesisError(f"{voice.id}: {error}") from None
    row = {
        **task.extra, "id": task.id, "text": text, "sentence": task.sentence, "speaker": voice.id, "engine": voice.engine,
        "lang": cast.language, "duration": round(seconds, 3), **({} if words is None else {"words": words}),
        "rate": round(style.rate, 2), "warp": round(style.warp, 3),
    }  # fmt: skip
    return clip, row


class Speaker:
    """A `worker.Maker` with the engines that a cast needs.

    Raises:
        SynthesisError: an engine is not there.
    """

    def __init__(self, cast: Cast, root: Path, engines: Mapping[str, Callable[..., Engine]], scratch: Path):
        self._cast = cast
        used = sorted({voice.engine for voice in cast.voices})
        self._engines = {name: engines[name](root, [voice for voice in cast.voices if voice.engine == name], scratch) for name in used}

    def make(self, task: Task) -> tuple[np.ndarray, dict[str, Any]]:
        """See `worker.Maker.make`; what one voice fails at, others try."""
        reasons = []
        for attempt in range(_ATTEMPTS):
            try:
                return make_clip(task, self._cast, self._engines, attempt)
            except SynthesisError as error:
                reasons.append(str(error))
        raise SynthesisError("; ".join(reasons))

    def close(self) -> None:
        """See `worker.Maker.close`."""
        for engine in self._engines.values():
            engine.close()
