"""Translate recordings under many settings of policies, and keep what was written when."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from riverrun.streaming import Event, Final, Partial
from riverrun.streaming.latency import normalized_erasure, split_units
from riverrun.streaming.latency.score import Unit
from riverrun.streaming.policies.history import UNSPACED
from riverrun.streaming.translator import Translator

from .errors import UsageError, about, is_users
from .recall import Recall
from .translation import Translating

if TYPE_CHECKING:
    from riverrun.streaming.policies import Policy

#: Hertz of recordings that are given as samples.
PACKED_RATE = 16000


@dataclass(frozen=True)
class Setting:
    """A policy with its options: as given, for instance ``("alignatt", ("frames=8",))``."""

    policy: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Recording:
    """What is translated, and what the translation should be.

    Attributes:
        id: of it.
        audio: a file, or samples (n,) int16 at `PACKED_RATE`.
        reference: its translation.
        sentences: of a long recording, each with "start" and "end" in seconds and its "translation"; empty for a single sentence.
    """

    id: str
    audio: Path | NDArray[np.int16]
    reference: str
    sentences: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Outcome:
    """One recording under one setting.

    Attributes:
        text: what was written.
        delays: of each word (character, of a language without spaces), source that had been heard when it was written, in ms.
        elapsed: likewise, with all computing until then added.
        erasure: words taken back of those shown, for each word of the text; None if it is empty.
        compute_ms: all computing.
    """

    text: str
    delays: tuple[float, ...]
    elapsed: tuple[float, ...]
    erasure: float | None
    compute_ms: float


@dataclass(frozen=True)
class Run:
    """One recording under all settings; ``took`` is the seconds of computing that it really cost."""

    id: str
    source_ms: float
    outcomes: tuple[Outcome, ...]
    took: float


class Runner:
    """A loaded model that runs recordings under settings.

    Args:
        wanted: the model, and how it is used.
        settings: in order.
        threads: processor threads; None as they are.

    Raises:
        ValueError: the model, or a setting, cannot be used; the message says why.
    """

    def __init__(self, wanted: Translating, settings: Sequence[Setting], threads: int | None = None):
        if threads is not None:
            torch.set_num_threads(threads)
        loaded = wanted.load()
        self._wanted, self.name = wanted, loaded.info["name"]
        self.models = {setting.policy: wanted.attention_model(loaded, setting.policy) for setting in settings}
        self.policies: list[tuple[Any, Policy]] = []
        for setting in settings:
            model = self.models[setting.policy]
            policy = wanted.policy(model, setting.policy, setting.options)
            self.language = wanted.translator(model, policy).language
            self.policies.append((model, policy))
        self.unit: Unit = "char" if self.language in UNSPACED else "word"

    def run(self, recording: Recording) -> Run:
        """Translate a recording under every setting. What the model heard and said before is not computed again.

        Raises:
            AudioError: it cannot be read.
        """
        rate = self.policies[0][0].sample_rate
        audio = torch.from_numpy(_samples(recording, rate))
        recalls: dict[int, Recall] = {}
        outcomes = []
        for model, policy in self.policies:
            recall = recalls.setdefault(id(model), Recall(model, self._wanted.device))
            outcomes.append(self._one(self._wanted.translator(recall, policy), recall, audio))
        return Run(recording.id, len(audio) / rate * 1000, tuple(outcomes), sum(recall.took for recall in recalls.values()))

    def _one(self, translator: Translator, recall: Recall, audio: torch.Tensor) -> Outcome:
        reader, state = translator.reader(), translator.init_state(1)
        spent, took = recall.spent, recall.took
        done_at: dict[float, float] = {}  # computing until each decision, by the source heard then
        events: list[Event] = []
        began = time.perf_counter()

        def computed() -> float:
            """Milliseconds of computing so far, had nothing been remembered."""
            return (time.perf_counter() - began - (recall.took - took) + (recall.spent - spent)) * 1000

        at = 0
        while at < len(audio):
            size = translator.chunk + (translator.delay if not at else 0)
            piece = audio[None, at : at + size]
            said, state = translator.step(piece, torch.tensor([piece.shape[1]]), state)
            at += size
            new = reader.read(said, 0)
            events += new
            done_at.update((decision.at_ms, computed()) for decision in said.decisions[0])
        said = translator.flush(state)
        events += reader.finish(said, 0)
        done_at.update((decision.at_ms, computed()) for decision in said.decisions[0] if decision.written)
        words = [word for event in events if isinstance(event, Final) for word in event.words]
        delays = [word.emitted_ms or 0.0 for word in words for _ in split_units(word.text, self.unit)]
        text = " ".join(event.text for event in events if isinstance(event, Final) and event.text)
        elapsed = tuple(delay + done_at[delay] for delay in delays)
        return Outcome(text, tuple(delays), elapsed, normalized_erasure(_shown(events)), computed())


def _samples(recording: Recording, rate: int) -> NDArray[np.float32]:
    """The audio (n,) of a recording at a model's rate."""
    from riverrun.speech.audio import Resampler, read_audio
    from riverrun.streaming.pipeline import as_float

    if isinstance(recording.audio, Path):
        return read_audio(recording.audio, rate)
    audio = as_float(recording.audio)
    if rate == PACKED_RATE:
        return audio
    resampler = Resampler(PACKED_RATE, rate)
    return np.concatenate([resampler.push(audio), resampler.finish()])


def _shown(events: Sequence[Event]) -> list[list[str]]:
    """The words on the screen after each event."""
    final: list[str] = []
    shown = []
    for event in events:
        if isinstance(event, Final):
            final += event.text.split()
            shown.append(list(final))
        elif isinstance(event, Partial):
            shown.append([*final, *event.text.split()])
    return shown


def runs(
    wanted: Translating, settings: Sequence[Setting], recordings: Sequence[Recording], runner: Runner, workers: int
) -> Iterator[Run | tuple[str, str]]:
    """Run recordings, as they are done: a `Run`, or (id, what was wrong).

    With ``workers`` above 1, each is a process with a model and a thread of its own.

    Raises:
        UsageError: a worker died.
    """
    if workers == 1:
        yield from (_run(runner, recording) for recording in recordings)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _begin, (wanted, tuple(settings))) as pool:
        waiting = [pool.submit(_work, recording) for recording in recordings]
        try:
            for done in as_completed(waiting):
                yield done.result()
        except BrokenProcessPool:
            raise UsageError("a worker died, perhaps for want of memory; try fewer --workers") from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


_RUNNER: list[Runner] = []  # of this worker process


def _begin(wanted: Translating, settings: Sequence[Setting]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    _RUNNER[:] = [Runner(wanted, settings, threads=1)]


def _work(recording: Recording) -> Run | tuple[str, str]:
    return _run(_RUNNER[0], recording)


def _run(runner: Runner, recording: Recording) -> Run | tuple[str, str]:
    try:
        return runner.run(recording)
    except ValueError as error:
        if not is_users(error):
            raise
        return recording.id, about(str(recording.audio) if isinstance(recording.audio, Path) else recording.id, error)
