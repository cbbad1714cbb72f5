"""One worker process: sentences in, clips of its part out."""

from __future__ import annotations

import random
import re
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from ..text import transcript
from .engine import Engine, SynthesisError, Voice
from .espeak import Espeak
from .festival import Festival
from .flite import Flite
from .part import Part
from .render import SAMPLE_RATE, render
from .voices import Cast

ENGINES: Mapping[str, Callable[[Path, list[Voice], Path], Engine]] = {"espeak": Espeak, "flite": Flite, "festival": Festival}
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
    extra: dict[str, Any] = field(default_factory=dict)


def same_words(spoken: str, sentence: str) -> bool:
    """Whether what was spoken is what is written, spaces, marks and respellings aside."""

    def letters(text: str) -> str:
        return re.sub("[^a-z]", "", " ".join(_RESPELLED.get(word, word) for word in re.findall("[a-z']+", text.lower())))

    return letters(spoken) == letters(sentence)


def make_clip(task: Task, cast: Cast, engines: Mapping[str, Engine], attempt: int = 0) -> tuple[np.ndarray, dict[str, Any]]:
    """Speak one sentence: int16 at 16 kHz, and its manifest row (without its place in a file). Each ``attempt`` draws a voice anew.

    The row's ``words`` are ``[word, start s, end s]`` and spell ``text``; an entry has two words where the engine runs them together.

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
        words = [(transcript(word), start, end) for word, start, end in times]
        if " ".join(word for word, _, _ in words if word) != text:
            raise SynthesisError("the word times do not spell the sentence")
    except SynthesisError as error:
        raise SynthesisError(f"{voice.id}: {error}") from None
    row = {
        **task.extra, "id": task.id, "text": text, "sentence": task.sentence, "speaker": voice.id, "engine": voice.engine,
        "lang": cast.language, "duration": round(seconds, 3), "words": [word for word in words if word[0]],
        "rate": round(style.rate, 2), "warp": round(style.warp, 3),
    }  # fmt: skip
    return clip, row


def work(
    index: int, tasks: list[Task], cast: Cast, root: Path, out: Path, engines: Mapping[str, Callable[..., Engine]], report: Connection
) -> None:
    """Speak ``tasks`` into part ``index`` of ``out``, reporting each task's position before it is begun; a text report is a fatal error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver ends its workers
    scratch = out / f"scratch-{index:03d}"
    scratch.mkdir(exist_ok=True)
    used = sorted({voice.engine for voice in cast.voices})
    try:
        ready = {name: engines[name](root, [voice for voice in cast.voices if voice.engine == name], scratch) for name in used}
    except (SynthesisError, OSError) as error:
        report.send(f"cannot start an engine: {error}")
        return
    try:
        with Part(out, index) as part:
            for position, task in enumerate(tasks):
                report.send(position)
                _speak(task, cast, ready, part)
    except BrokenPipeError:
        return  # the driver is gone
    except OSError as error:
        report.send(f"cannot write to {out}: {(error.strerror or str(error)).lower()}")
    finally:
        for engine in ready.values():
            engine.close()


def _speak(task: Task, cast: Cast, engines: Mapping[str, Engine], part: Part) -> None:
    reasons = []
    for attempt in range(_ATTEMPTS):
        try:
            part.add(*make_clip(task, cast, engines, attempt))
            return
        except SynthesisError as error:
            reasons.append(str(error))
    part.fail({"id": task.id, "sentence": task.sentence, "reason": "; ".join(reasons)})
