"""What a live stream says: partial and final text, words with times, endpoints.

Times are seconds of audio since the stream began. Confidences are probabilities in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Word:
    """One word of a transcript or translation; ``end`` is exclusive.

    Attributes:
        text: the word.
        start: when it is spoken; of a translated word, when what it translates is spoken, as far as attention can tell.
        end: likewise.
        confidence: 1 where the model gives none.
        emitted_ms: of a translated word that is written for good: source audio heard when it was written, in ms since the stream began.
        source_ms: of a translated word: where in the source its attention has its peak, in ms since the stream began; None for a model
            without cross-attention.
    """

    text: str
    start: float
    end: float
    confidence: float
    emitted_ms: float | None = None
    source_ms: float | None = None


@dataclass(frozen=True)
class Event:
    """Something that happened in segment ``segment`` of a stream (counted from 0)."""

    segment: int


@dataclass(frozen=True)
class Partial(Event):
    """Text of the running segment so far; a later event may revise it, save its first ``stable`` characters."""

    text: str
    words: tuple[Word, ...] = field(default=())
    stable: int = 0


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
class Lag:
    """The stream is ``seconds`` behind real time; 0 when it has caught up."""

    seconds: float


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
