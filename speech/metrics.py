"""Scores of recognition: word and character error rates with confidence intervals, and how late words appear."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import jiwer
import numpy as np

from riverrun.streaming.events import Event, Final, Partial


@dataclass(frozen=True)
class Edits:
    """Edits that turn a reference of ``reference`` tokens into a hypothesis (Levenshtein); they add up over recordings."""

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    reference: int = 0

    @property
    def errors(self) -> int:
        """All edits."""
        return self.substitutions + self.deletions + self.insertions

    @property
    def rate(self) -> float:
        """Edits per reference token; for an empty reference 0 if the hypothesis is empty too, else 1."""
        return self.errors / self.reference if self.reference else float(self.errors > 0)

    def __add__(self, other: Edits) -> Edits:
        return Edits(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.reference + other.reference,
        )


def word_edits(reference: str, hypothesis: str) -> Edits:
    """Edits between two normalised texts, counted in words."""
    if not reference:
        return Edits(insertions=len(hypothesis.split()))
    return _edits(jiwer.process_words(reference, hypothesis), len(reference.split()))


def character_edits(reference: str, hypothesis: str) -> Edits:
    """Edits between two normalised texts, counted in characters, spaces included."""
    if not reference:
        return Edits(insertions=len(hypothesis))
    return _edits(jiwer.process_characters(reference, hypothesis), len(reference))


def _edits(counts: jiwer.WordOutput | jiwer.CharacterOutput, reference: int) -> Edits:
    return Edits(counts.substitutions, counts.deletions, counts.insertions, reference)


def bootstrap_interval(parts: Sequence[Edits], confidence: float = 0.95, resamples: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval of the total error rate, drawing whole recordings (Bisani and Ney, ICASSP 2004).

    Args:
        parts: edits of each recording; one or more.
        confidence: probability that the interval is to hold.
        resamples: draws.
        seed: of the draws; the same seed gives the same interval.
    """
    errors = np.array([part.errors for part in parts])
    reference = np.array([part.reference for part in parts])
    draw = np.random.default_rng(seed)
    chosen = (draw.integers(len(parts), size=len(parts)) for _ in range(resamples))
    rates = [errors[files].sum() / max(reference[files].sum(), 1) for files in chosen]
    low, high = np.quantile(rates, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class WordDelay:
    """How long after its end a word of the final text appeared, in seconds of audio; negative if it was guessed before its end.

    Attributes:
        first: until it first stood at its place in the running text.
        settled: until it stood there for good.
    """

    first: float
    settled: float


def word_delays(heard: Iterable[tuple[float, Event]]) -> list[WordDelay]:
    """Delays of all final words, in order.

    The measure is algorithmic: audio time only, without the time of computing or of a network.

    Args:
        heard: every event of a stream in order, with the seconds of audio pushed when it came.
    """
    delays: list[WordDelay] = []
    history: dict[int, list[tuple[float, list[str]]]] = {}
    for now, event in heard:
        if not isinstance(event, Partial | Final):
            continue
        texts = [word.text for word in event.words] or event.text.split()
        history.setdefault(event.segment, []).append((now, texts))
        if isinstance(event, Final):
            versions = history.pop(event.segment)
            for i, word in enumerate(event.words):
                right = [texts[i : i + 1] == [word.text] for _, texts in versions]
                settled = len(right) - right[::-1].index(False) if False in right else 0
                delays.append(WordDelay(versions[right.index(True)][0] - word.end, versions[settled][0] - word.end))
    return delays
