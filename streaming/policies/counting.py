"""Policies that count: wait-k, and writing at a fixed pace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import Hypothesis, Policy, PolicyError, Progress, check_duration, check_whole, words_to_tokens

#: What may count the words of the source.
DETECTORS = ("ctc", "fixed", "speech")


@dataclass(frozen=True)
class WaitK(Policy):
    """wait-k: target word i is written when k + i - 1 source words have been heard (Ma et al. 2019, STACL).

    Attributes:
        k: words of lag.
        words: what counts as a source word. "ctc": a word that the encoder's CTC head hears greedily (Ren et al. 2020, SimulSpeech);
            "fixed": each ``unit_ms`` of audio (Ma et al. 2020, SimulMT to SimulST); "speech": each ``unit_ms`` of audio with speech
            in it, so that pauses do not count.
        unit_ms: of "fixed" and "speech".
    """

    k: int = 3
    words: str = "fixed"
    unit_ms: float = 320.0
    name: ClassVar[str] = "wait-k"

    def __post_init__(self) -> None:
        check_whole("policy wait-k", "k", self.k, 1)
        check_duration("policy wait-k", "unit-ms", self.unit_ms)
        if self.words not in DETECTORS:
            raise PolicyError(f"policy wait-k: words is {self.words!r}: choose {', '.join(DETECTORS[:-1])} or {DETECTORS[-1]}")
        object.__setattr__(self, "detector", self.words)

    def _allowed(self, progress: Progress) -> int:
        return progress.source_words - self.k + 1 - progress.written_words

    def asks(self, progress: Progress) -> bool:
        return self._allowed(progress) > 0

    def writable(self, hypothesis: Hypothesis, earlier: list[tuple[int, ...]], progress: Progress) -> int:
        return words_to_tokens(hypothesis.starts, max(self._allowed(progress), 0))


@dataclass(frozen=True)
class Fixed(Policy):
    """``words`` words for every ``every_ms`` of source, whatever they are: the baseline that looks at nothing."""

    words: int = 1
    every_ms: float = 400.0
    name: ClassVar[str] = "fixed"

    def __post_init__(self) -> None:
        check_whole("policy fixed", "words", self.words, 1)
        check_duration("policy fixed", "every-ms", self.every_ms)

    def _allowed(self, progress: Progress) -> int:
        return self.words * int(progress.source_ms // self.every_ms) - progress.written_words

    def asks(self, progress: Progress) -> bool:
        return self._allowed(progress) > 0

    def writable(self, hypothesis: Hypothesis, earlier: list[tuple[int, ...]], progress: Progress) -> int:
        return words_to_tokens(hypothesis.starts, max(self._allowed(progress), 0))
