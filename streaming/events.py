"""What a live stream says: partial and final text, words with times, endpoints.

Times are seconds of audio since the stream began. Confidences are probabilities in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Word:
    """One word of a transcript; ``end`` is exclusive."""

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class Event:
    """Something that happened in segment ``segment`` of a stream (counted from 0)."""

    segment: int


@dataclass(frozen=True)
class Partial(Event):
    """Text of the running segment so far; a later event may revise it."""

    text: str
    words: tuple[Word, ...] = field(default=())


@dataclass(frozen=True)
class Final(Event):
    """Text of a finished segment; it never changes again."""

    text: str
    words: tuple[Word, ...] = field(default=())
    start: float = 0.0
    end: float = 0.0


@dataclass(frozen=True)
class Endpoint(Event):
    """The segment ended at ``time``, by the endpoint rule named ``rule``."""

    time: float
    rule: str


@dataclass(frozen=True)
class Transcript:
    """A whole recording: its final segments in order, and its duration in seconds."""

    segments: tuple[Final, ...]
    duration: float

    @property
    def text(self) -> str:
        """The segments' texts, joined by spaces."""
        return " ".join(s.text for s in self.segments if s.text)

    @property
    def words(self) -> tuple[Word, ...]:
        """The words of all segments."""
        return tuple(w for s in self.segments for w in s.words)
