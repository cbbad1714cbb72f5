"""Times for formats that allow neither overlaps nor empty intervals: whole milliseconds, in order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from riverrun.streaming.events import Final, Word


def lay_out(spans: Sequence[tuple[float, float]]) -> list[tuple[int, int]]:
    """Spans ``(start, end)`` in seconds, in reading order, as disjoint ascending spans of at least 1 ms, in milliseconds.

    An overlap is cut from the end of the earlier span; an empty span takes its millisecond from what follows it.
    """
    marks = [(max(round(start * 1000), 0), round(end * 1000)) for start, end in spans]
    laid, free = [], 0
    for i, (start, end) in enumerate(marks):
        following = marks[i + 1][0] if i + 1 < len(marks) else end
        end = min(end, following) if following > start else end
        start = max(start, free)
        free = max(end, start + 1)
        laid.append((start, free))
    return laid


def words_of(segment: Final) -> tuple[Word, ...]:
    """The words of a segment; where a model gave text without word times, they share the segment's time by their length."""
    if segment.words or not segment.text.strip():
        return tuple(word for word in segment.words if word.text.strip())
    from riverrun.streaming.events import Word

    texts = segment.text.split()
    whole = sum(map(len, texts))
    words, said = [], 0
    for text in texts:
        start, end = (segment.start + (segment.end - segment.start) * n / whole for n in (said, said + len(text)))
        words.append(Word(text, start, end, 1.0))
        said += len(text)
    return tuple(words)


def one_line(text: str, space: str = " ") -> str:
    """``text`` with every run of white space, line breaks included, as one ``space``."""
    return space.join(text.split())


def nonempty(segments: Iterable[Final]) -> list[Final]:
    """The segments in which something was said."""
    return [segment for segment in segments if segment.text.strip()]
