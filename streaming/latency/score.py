"""Scores of a corpus."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ..events import Word
from .compute import Aware, queue, spent
from .metrics import METRICS
from .token_delay import SPEECH_TOKEN_MS, average_token_delay

Unit = Literal["word", "char"]


@dataclass(frozen=True)
class Timing:
    """When the words of one utterance were written.

    Attributes:
        delays: of each word (each character, for zh and ja), in ms of source; of each piece, where speech is put out.
        source: length of the source in ms.
        reference: words of the reference; None: as many as were written.
        elapsed: of each word, its delay and all computing before it; empty if it was not measured.
        durations: of each piece of speech, where speech is put out.
        text: source and target are texts, whose words are the unit of all times.
    """

    delays: tuple[float, ...]
    source: float
    reference: int | None = None
    elapsed: tuple[float, ...] = ()
    durations: tuple[float, ...] | None = None
    text: bool = False


@dataclass(frozen=True)
class Scores:
    """Means over the utterances that have words.

    Attributes:
        values: by metric; None where no utterance has one.
        utterances: in all.
        empty: those without a word, which no mean counts.
    """

    values: dict[str, float | None]
    utterances: int
    empty: int


def score(timings: Iterable[Timing], aware: Aware = "no") -> Scores:
    """LAAL, YAAL, AL, AP, DAL, StartOffset and ATD of a corpus.

    Args:
        timings: the utterances.
        aware: whether computing counts, and how: "additive" as public tools have it, "queue" as it would be. ATD, which is a queue by
            itself, is the same in both.

    Raises:
        ValueError: computing is to count, and was not measured.
    """
    columns: dict[str, list[float]] = {name: [] for name in (*METRICS, "ATD")}
    utterances = empty = 0
    for timing in timings:
        utterances += 1
        empty += not timing.delays
        for name, value in _one(timing, aware).items():
            if value is not None:
                columns[name].append(value)
    return Scores({name: sum(column) / len(column) if column else None for name, column in columns.items()}, utterances, empty)


def _one(timing: Timing, aware: Aware) -> dict[str, float | None]:
    delays = timing.delays
    if aware != "no" and len(timing.elapsed) != len(delays):
        raise ValueError("computation-aware latency needs the elapsed time of each word, which this log does not have")
    times: Sequence[float] = delays
    if aware == "additive":
        times = timing.elapsed
    elif aware == "queue":
        times = queue(delays, spent(delays, timing.elapsed))
    reference = len(delays) if timing.reference is None else timing.reference
    values = {name: metric(times, timing.source, reference) for name, metric in METRICS.items()}
    source_token, target_token = (1.0, 1.0) if timing.text else (SPEECH_TOKEN_MS, 0.0)
    elapsed = timing.elapsed if aware != "no" else None
    values["ATD"] = average_token_delay(delays, elapsed, timing.durations, source_token, target_token)
    return values


def split_units(text: str, unit: Unit) -> list[str]:
    """The units of a text that latency counts: words, or characters other than spaces."""
    return text.split() if unit == "word" else [c for c in text if not c.isspace()]


def timing_of(words: Iterable[Word], source_ms: float, reference: str | None = None, unit: Unit = "word") -> Timing:
    """The timing of a stream's translated words, by their ``emitted_ms``.

    Raises:
        ValueError: a word is not written for good, or is no translated one.
    """
    delays = []
    for word in words:
        if word.emitted_ms is None:
            raise ValueError(
                f"the word {word.text!r} has no time at which it was written: take the words of final segments of a translation"
            )
        delays += [word.emitted_ms] * len(split_units(word.text, unit))
    return Timing(tuple(delays), source_ms, None if reference is None else len(split_units(reference, unit)))


def read_instances(path: Path, unit: Unit = "word") -> list[Timing]:
    """The utterances of an ``instances.log`` that SimulEval wrote for speech input.

    Raises:
        ValueError: a line is not what SimulEval writes.
    """
    timings = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            one = json.loads(line)
            reference = len(split_units(one["reference"], unit)) if one.get("reference") else None
            durations = tuple(map(float, one["durations"])) if one.get("durations") else None
            delays, elapsed = (tuple(map(float, one[name])) for name in ("delays", "elapsed"))
            timings.append(Timing(delays, float(one["source_length"]), reference, elapsed, durations))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {number}: not an instance of SimulEval ({type(error).__name__}: {error})") from None
    return timings
