"""One stream's decisions as events: translated text of which the beginning is stable, segments, words with their times."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .events import Endpoint, Event, Final, Partial, Word

#: Words of a segment that finds no sentence end.
LONGEST_SEGMENT = 60


class Shown(NamedTuple):
    """A token that is written, or shown behind what is."""

    token: int
    source_ms: float | None  #: beginning of the source frame that it attends to
    closes: bool  #: whether a sentence ends with it
    score: float  #: log-probability; 0 if the model does not tell


class Decision(NamedTuple):
    """What a translator decided for one stream.

    Attributes:
        at_ms: source audio heard.
        written: tokens written now.
        tail: tokens of the hypothesis behind them, which may change.
        ends: the rule by which the segment ends with what is written; "end" at the stream's end; empty if it goes on.
    """

    at_ms: float
    written: tuple[Shown, ...]
    tail: tuple[Shown, ...]
    ends: str


@dataclass(frozen=True)
class Said:
    """A step's output: the decisions of each slot, in order."""

    decisions: tuple[tuple[Decision, ...], ...]


class _Item(NamedTuple):
    """A token of the running segment."""

    token: int
    source_ms: float | None
    at_ms: float
    score: float


class TranslationReader:
    """Implements `Reader` for a `Translator`.

    Each decision that changes the text gives a `Partial`, so that events are the same however the audio was cut. A segment ends with a
    sentence (rule "sentence"), at a gap between words after `LONGEST_SEGMENT` words ("longest"), or where the translator says.

    Args:
        decode: tokens to text.
        starts_word: whether a token begins a word.
        frame_ms: source time of a frame.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], starts_word: Callable[[int], bool], frame_ms: float):
        self._decode, self._starts_word, self._frame_ms = decode, starts_word, frame_ms
        self._segment = 0
        self._items: list[_Item] = []  # written tokens of the running segment
        self._stable, self._settled = "", 0  # text that never changes, and the items that it covers
        self._tail: list[_Item] = []
        self._shown = Partial(0, "")
        self._clock = 0.0  # seconds: no word of a later segment begins before

    def read(self, output: Said, slot: int) -> list[Event]:
        """Events of a step."""
        return [event for decision in output.decisions[slot] for event in self._take(decision)]

    def finish(self, output: Said, slot: int) -> list[Event]:
        """Events of the end: what is left becomes final."""
        return self.read(output, slot)

    def _take(self, decision: Decision) -> list[Event]:
        events: list[Event] = []
        for shown in decision.written:
            starts = self._starts_word(shown.token)
            if starts and self._words_so_far() >= LONGEST_SEGMENT:
                events += self._end(decision.at_ms, "longest")
            self._items.append(_Item(shown.token, shown.source_ms, decision.at_ms, shown.score))
            if shown.closes:
                events += self._end(decision.at_ms, "sentence")
        self._tail = [_Item(shown.token, shown.source_ms, decision.at_ms, shown.score) for shown in decision.tail]
        if decision.ends:
            return events + (self._end(decision.at_ms, decision.ends) if self._items else [])
        self._settle()
        text = self._text()
        partial = Partial(self._segment, text, self._words(self._items, self._tail), len(self._stable))
        if (text, partial.stable) != (self._shown.text, self._shown.stable):
            self._shown = partial
            events.append(partial)
        return events

    def _end(self, at_ms: float, rule: str) -> list[Event]:
        """Close the running segment."""
        self._settle()
        words = self._words(self._items, [])
        end = max((word.end for word in words), default=at_ms / 1000)
        final = Final(self._segment, self._stable, words, words[0].start if words else end, end)
        events: list[Event] = [final] if rule == "end" else [final, Endpoint(self._segment, round(at_ms / 1000, 3), rule)]
        self._clock = max(self._clock, words[-1].start if words else 0.0)
        self._segment += 1
        self._items, self._stable, self._settled = [], "", 0
        self._shown = Partial(self._segment, "")
        return events

    def _settle(self) -> None:
        """Take what is written into the stable text, which only grows, whatever the tokenizer makes of more tokens."""
        new = [item.token for item in self._items[self._settled :]]
        if not new:
            return
        whole = self._decode([item.token for item in self._items]).rstrip("\ufffd")
        if not whole.startswith(self._stable):
            whole = self._stable + (" " if self._starts_word(new[0]) else "") + self._decode(new)
        self._stable, self._settled = whole, len(self._items)

    def _text(self) -> str:
        """The stable text, and the tail behind it."""
        tail = [item.token for item in self._tail]
        if not tail:
            return self._stable
        whole = self._decode([item.token for item in self._items] + tail).rstrip("\ufffd")
        if whole.startswith(self._stable):
            return whole
        return self._stable + (" " if self._stable and self._starts_word(tail[0]) else "") + self._decode(tail)

    def _words_so_far(self) -> int:
        return sum(self._starts_word(item.token) for item in self._items)

    def _words(self, items: Sequence[_Item], tail: Sequence[_Item]) -> tuple[Word, ...]:
        """Words of the segment; their starts do not fall, for subtitles."""
        groups: list[list[tuple[_Item, bool]]] = []
        for item, written in [*((i, True) for i in items), *((i, False) for i in tail)]:
            if not groups or self._starts_word(item.token):
                groups.append([])
            groups[-1].append((item, written))
        words, clock = [], self._clock
        for group in groups:
            text = self._decode([item.token for item, _ in group]).strip()
            looks = [item.source_ms for item, _ in group if item.source_ms is not None]
            at_ms = group[0][0].at_ms  # punctuation may follow much later
            clock = max(clock, (looks[0] if looks else at_ms) / 1000)
            end = max(clock, (max(looks) + self._frame_ms if looks else at_ms) / 1000)
            score = math.exp(min(sum(item.score for item, _ in group) / len(group), 0.0))
            emitted = group[0][0].at_ms if group[0][1] else None  # punctuation may follow later, or stand behind it in the tail
            if text:
                words.append(Word(text, round(clock, 3), round(end, 3), round(score, 4), emitted, looks[0] if looks else None))
        return tuple(words)

    def save(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "segment": self._segment,
            "items": self._items,
            "tail": self._tail,
            "stable": self._stable,
            "settled": self._settled,
            "shown": [self._shown.segment, self._shown.text, self._shown.stable],
            "clock": self._clock,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """From JSON."""
        try:
            self._segment, self._settled = int(saved["segment"]), int(saved["settled"])
            self._items, self._tail = ([_item(*values) for values in saved[name]] for name in ("items", "tail"))
            self._stable, self._clock = str(saved["stable"]), float(saved["clock"])
            segment, text, stable = saved["shown"]
            self._shown = Partial(int(segment), str(text), stable=int(stable))
        except (KeyError, TypeError) as error:
            raise ValueError(f"not the state of a translation reader: {error}") from None


def _item(token: int, source_ms: float | None, at_ms: float, score: float) -> _Item:
    return _Item(int(token), None if source_ms is None else float(source_ms), float(at_ms), float(score))
