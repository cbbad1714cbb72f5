"""Praat's TextGrid, long text format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from .timeline import lay_out, nonempty, one_line, words_of

if TYPE_CHECKING:
    from riverrun.streaming.events import Transcript

Interval = tuple[int, int, str]  #: start and end in milliseconds, label


def textgrid(transcript: Transcript, name: str) -> str:
    """A TextGrid, UTF-8, with interval tiers ``words`` and ``segments``; silence is an interval with an empty label.

    Praat has no empty intervals: a word of no length gets 1 ms, and an empty recording lasts 1 ms.
    """
    segments = nonempty(transcript.segments)
    words = [(word.start, word.end, word.text) for segment in segments for word in words_of(segment)]
    tiers = {"words": _spoken(words), "segments": _spoken([(s.start, s.end, s.text) for s in segments])}
    end = max(round(transcript.duration * 1000), 1, *(spoken[-1][1] for spoken in tiers.values() if spoken))
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0.000", f"xmax = {_seconds(end)}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (tier, spoken) in enumerate(tiers.items(), 1):
        intervals = list(_with_silences(spoken, end))
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{tier}"']
        lines += ["        xmin = 0.000", f"        xmax = {_seconds(end)}", f"        intervals: size = {len(intervals)}"]
        for i, (start, stop, label) in enumerate(intervals, 1):
            lines += [f"        intervals [{i}]:", f"            xmin = {_seconds(start)}", f"            xmax = {_seconds(stop)}"]
            lines.append(f'            text = "{_quote(label)}"')
    return "\n".join(lines) + "\n"


def _spoken(items: Sequence[tuple[float, float, str]]) -> list[Interval]:
    times = lay_out([(start, end) for start, end, _ in items])
    return [(start, end, label) for (start, end), (_, _, label) in zip(times, items, strict=True)]


def _with_silences(spoken: Iterable[Interval], duration: int) -> Iterable[Interval]:
    now = 0
    for start, end, label in spoken:
        if start > now:
            yield now, start, ""
        yield start, end, label
        now = end
    if duration > now:
        yield now, duration, ""


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.3f}"


def _quote(label: str) -> str:
    return one_line(label).replace('"', '""')
