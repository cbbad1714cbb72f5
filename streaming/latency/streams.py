"""Latency of a stream of many sentences: its output is cut to fit the reference's sentences, then each is scored by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .metrics import length_adaptive_average_lagging


@dataclass(frozen=True)
class Sentence:
    """A sentence of the reference.

    Attributes:
        words: of it; characters, for zh and ja.
        start_ms: when it begins in the recording.
        duration_ms: how long it is.
    """

    words: tuple[str, ...]
    start_ms: float
    duration_ms: float


@dataclass(frozen=True)
class StreamScores:
    """StreamLAAL.

    Attributes:
        laal: mean over the sentences that have words; None if none has.
        sentences: in all.
        empty: those to which no word of the output belongs, which the mean does not count.
    """

    laal: float | None
    sentences: int
    empty: int


def resegment(words: Sequence[str], references: Sequence[Sequence[str]]) -> list[range]:
    """Cut ``words`` so that the edit distances to the references add up to least (mWER; Matusov et al. 2005).

    Of equally good cuts, the later: a word between two sentences belongs to the first. Time grows with the product of the lengths,
    memory with words times references.

    Returns:
        For each reference, the indices of its words; together they are all words, in order.
    """
    if not references:
        return []
    size = len(words)
    numbers = {word: i for i, word in enumerate(dict.fromkeys([*words, *(w for r in references for w in r)]))}
    have = np.array([numbers[w] for w in words], np.int64)
    place = np.arange(size + 1, dtype=np.int64)
    unit = size + 1  # a key is cost · unit + what is to be small among equals: here size - where the running sentence began

    def insert(key: np.ndarray) -> np.ndarray:
        """Words that answer nothing."""
        return np.minimum.accumulate(key - place * unit) + place * unit

    key = place * unit + size
    begins = []
    for number, reference in enumerate(references):
        if number:
            key = insert(key // unit * unit + size - place)
        for word in reference:
            skipped = key + unit
            skipped[1:] = np.minimum(skipped[1:], key[:-1] + unit * (have != numbers[word]))
            key = insert(skipped)
        begins.append(size - key % unit)
    bounds = [size]
    for begin in reversed(begins):
        bounds.append(int(begin[bounds[-1]]))
    bounds.reverse()
    return [range(a, b) for a, b in zip(bounds, bounds[1:], strict=False)]


def stream_laal(words: Sequence[str], delays: Sequence[float], references: Sequence[Sentence]) -> StreamScores:
    """StreamLAAL (Papi et al. 2024, "StreamAtt"): LAAL of each sentence, its delays counted from the sentence's beginning.

    Args:
        words: of the whole output.
        delays: of each, in ms of the recording; with computing added, for the computation-aware score.
        references: the sentences in order.
    """
    values = []
    for sentence, own in zip(references, resegment(words, [s.words for s in references]), strict=True):
        since = [delays[i] - sentence.start_ms for i in own]
        value = length_adaptive_average_lagging(since, sentence.duration_ms, len(sentence.words))
        if value is not None:
            values.append(value)
    return StreamScores(sum(values) / len(values) if values else None, len(references), len(references) - len(values))
