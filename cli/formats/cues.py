"""Subtitle cues: where to cut a transcript so that it can be read.

Limits are those that broadcasters and streaming services publish: two lines of 42 characters, at most 7 s on the
screen, at least 1 s and 17 characters a second wherever the next cue leaves the time. Cuts fall between words,
at pauses and punctuation first; all cuts of a recording are chosen together, by least cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from rich.cells import cell_len

from .timeline import lay_out, one_line, words_of

if TYPE_CHECKING:
    from riverrun.streaming.events import Transcript

LINE = 42  #: characters a line; a wide character (Chinese, Japanese, Korean) counts two
LINES = 2
LONGEST = 7.0  #: seconds on the screen
SHORTEST = 1.0
READING = 17.0  #: characters a second
PAUSE = 0.7  #: a silence this long, in seconds, always ends a cue


@dataclass(frozen=True)
class Cue:
    """One subtitle: one or two lines shown from ``start`` until ``end``, in milliseconds."""

    start: int
    end: int
    lines: tuple[str, ...]


@dataclass(frozen=True)
class _Piece:
    """A word, or part of a word longer than a line; ``space`` is what separates it from the piece before."""

    text: str
    space: str
    start: float
    end: float


def cues(transcript: Transcript) -> list[Cue]:
    """Cut a transcript into cues, in order, that never overlap."""
    pieces = _pieces(transcript)
    if not pieces:
        return []
    cuts = _cuts(pieces)
    groups = [pieces[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]
    times = lay_out([(group[0].start, min(group[-1].end, group[0].start + LONGEST)) for group in groups])
    last = max(round(transcript.duration * 1000), times[-1][1])
    result = []
    for (start, end), group, following in zip(times, groups, [start for start, _ in times[1:]] + [last], strict=True):
        wanted = max(SHORTEST, _width(group) / READING)
        result.append(Cue(start, max(end, min(start + round(min(wanted, LONGEST) * 1000), following)), _lines(group)))
    return result


def _pieces(transcript: Transcript) -> list[_Piece]:
    pieces = []
    for segment in transcript.segments:
        position = 0
        for word in words_of(segment):
            found = segment.text.find(word.text, position)
            glued = found == position > 0  # writing without spaces
            position = found + len(word.text) if found >= 0 else position
            parts = _chop(one_line(word.text))
            length = (max(word.end, word.start) - word.start) / max(len(parts), 1)
            for i, part in enumerate(parts):
                start = word.start + i * length
                pieces.append(_Piece(part, "" if i or glued else " ", start, start + length))
    return pieces


def _chop(word: str) -> list[str]:
    """A word in parts that fit a line; nothing of it is lost, not even characters without width."""
    parts = [""]
    for character in word:
        if cell_len(parts[-1] + character) > LINE:
            parts.append("")
        parts[-1] += character
    return parts


def _cuts(pieces: list[_Piece]) -> list[int]:
    """Indices at which cues begin, and the end: the cheapest way to cut, by dynamic programming over the pieces."""
    cost, back = [0.0], [0]
    for end in range(1, len(pieces) + 1):
        best = (cost[end - 1] + _cost(pieces, end - 1, end), end - 1)
        for start in range(end - 2, -1, -1):
            if pieces[start + 1].start - pieces[start].end >= PAUSE or not _fits(pieces[start:end]):
                break
            best = min(best, (cost[start] + _cost(pieces, start, end), start))
        cost.append(best[0])
        back.append(best[1])
    cuts = [len(pieces)]
    while cuts[-1] > 0:
        cuts.append(back[cuts[-1]])
    return cuts[::-1]


def _cost(pieces: list[_Piece], start: int, end: int) -> float:
    """One for the cue, less where it ends well, more where it is short in time or leaves most of its room empty."""
    if end == len(pieces):
        breaks, shown = 0.0, SHORTEST
    else:
        pause = pieces[end].start - pieces[end - 1].end
        mark = pieces[end - 1].text[-1]
        breaks = 0.0 if mark in ".?!…。？！" else min(0.3 if mark in ",;:，、；：" else 1.0, 1.0 - min(pause, 0.5) * 2)
        shown = pieces[end].start - pieces[start].start
    room = 1 - _width(pieces[start:end]) / (LINE * LINES)
    return 1.0 + breaks + max(SHORTEST - shown, 0.0) + 0.5 * room**2


def _fits(group: list[_Piece]) -> bool:
    return group[-1].end - group[0].start <= LONGEST and _width(group) <= LINE * LINES + 1 and bool(_lines(group))


def _width(group: list[_Piece]) -> int:
    return cell_len(_join(group))


def _join(group: list[_Piece]) -> str:
    return "".join(piece.space + piece.text for piece in group).removeprefix(group[0].space)


def _lines(group: list[_Piece]) -> tuple[str, ...]:
    """The group on one line, or on two of nearly equal length, the second rather the longer; empty if it does not fit."""
    text = _join(group)
    widths = list(accumulate(cell_len(piece.space + piece.text) for piece in group))
    if widths[-1] - len(group[0].space) <= LINE:
        return (text,)
    options = [(_join(group[:i]), _join(group[i:])) for i in range(1, len(group))]
    fitting = [pair for pair in options if max(map(cell_len, pair)) <= LINE]
    return min(fitting, key=lambda pair: abs(cell_len(pair[1]) - cell_len(pair[0]) - 2), default=())
