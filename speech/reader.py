"""One stream's labels as events: partial and final text, words, endpoints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from riverrun.streaming import Endpoint, Event, Final, Partial, Word
from riverrun.streaming.endpoint import Cut, Emission, EndpointDetector, EndpointState
from riverrun.streaming.vad import WINDOW_S

from .search.base import Committed, Label, Labels, read_labels
from .tokenizer import Tokenizer
from .words import LabelDelay, words_of


class Heard(NamedTuple):
    """What a step of a recogniser decided, for all slots."""

    final: list[tuple[Labels | Committed, Tensor]]  #: outputs that never change again, with their lengths (S,)
    best: tuple[Committed, Tensor] | None  #: what would follow if the streams ended here
    decided: Tensor  #: (S,) frames since each stream's start whose labels are final


class LabelReader:
    """Implements `riverrun.streaming.Reader` for label searches.

    Args:
        tokenizer: labels to text.
        endpoints: where segments end.
        delay: see `riverrun.speech.words.LabelDelay`.
    """

    def __init__(self, tokenizer: Tokenizer, endpoints: EndpointDetector, delay: LabelDelay):
        self._tokenizer, self._endpoints, self._delay = tokenizer, endpoints, delay
        self._labels: list[Label] = []  # final labels of the running segment
        self._closed: list[Word] = []  # words of the segment that no later label changes, kept lest each step make all words anew
        self._open = 0  # label that begins the first word behind them
        self._decided = 0
        self._state = EndpointState()
        self._partial = ""
        self._windows = 0  # of voice activity detection, so far
        self._voiced: list[int] | None = None  # frames that are not decided yet with speech in them; None without detection

    def voice(self, speech: Sequence[bool]) -> None:
        """See `riverrun.streaming.vad.VoicedReader`. A window belongs to the frame in which it ends."""
        self._voiced = self._voiced or []
        for said in speech:
            self._windows += 1
            if said:
                self._voiced.append(math.ceil(self._windows * WINDOW_S / self._endpoints.frame_s - 1e-6) - 1)

    def read(self, output: Heard, slot: int) -> list[Event]:
        """Events of a step."""
        events = self._take(output, slot)
        best = read_labels(*output.best, slot) if output.best else []
        self._close()
        words = (*self._closed, *self._words(self._labels[self._open :] + best))
        text = " ".join([w.text for w in words])
        if text != self._partial:
            self._partial = text
            events.append(Partial(self._state.segment, text, words))
        return events

    def finish(self, output: Heard, slot: int) -> list[Event]:
        """Events of the end: what is left becomes final."""
        events = self._take(output, slot)
        if self._labels:
            events.append(self._final(self._state.segment, self._labels, self._decided))
            self._labels, self._closed, self._open = [], [], 0
        return events

    def _take(self, output: Heard, slot: int) -> list[Event]:
        for labels, lengths in output.final:
            self._labels += read_labels(labels, lengths, slot, self._decided)
        self._decided = int(output.decided[slot])
        fresh = len(self._labels)  # endpointing has seen those before its frame
        while fresh and self._labels[fresh - 1].frame >= self._state.frame:
            fresh -= 1
        emissions = [Emission(label.frame, self._tokenizer.starts_word(label.id)) for label in self._labels[fresh:]]
        self._state, cuts = self._endpoints.advance(self._state, self._decided, emissions, self._voiced)
        if self._voiced:
            self._voiced = [frame for frame in self._voiced if frame >= self._decided]
        return [event for cut in cuts for event in self._cut(cut)]

    def _close(self) -> None:
        """Keep the words before the last one that has begun."""
        last = len(self._labels) - 1
        while last > self._open and not self._tokenizer.starts_word(self._labels[last].id):
            last -= 1
        if last > self._open:
            words = self._words(self._labels[self._open : last + 1])  # where the next begins, each ends at the latest
            self._closed += words[:-1] if self._tokenizer.surface(self._labels[last].id) else words
            self._open = last

    def _cut(self, cut: Cut) -> list[Event]:
        ended = [label for label in self._labels if label.frame < cut.frame]
        self._labels = self._labels[len(ended) :]
        self._closed, self._open = [], 0
        self._partial = ""
        end = Endpoint(cut.segment, round(cut.frame * self._endpoints.frame_s, 3), cut.rule)
        return [self._final(cut.segment, ended, cut.frame), end] if ended else [end]

    def _final(self, segment: int, labels: list[Label], frame: int) -> Final:
        words = self._words(labels)
        end = words[-1].end if words else round(frame * self._endpoints.frame_s, 3)
        return Final(segment, " ".join(w.text for w in words), words, words[0].start if words else end, end)

    def _words(self, labels: list[Label]) -> tuple[Word, ...]:
        return words_of(labels, self._tokenizer, self._endpoints.frame_s, self._delay)

    def save(self) -> dict[str, Any]:
        """As JSON."""
        saved = {"labels": self._labels, "decided": self._decided, "endpoint": self._state, "partial": self._partial}
        return saved if self._voiced is None else {**saved, "windows": self._windows, "voiced": self._voiced}

    def restore(self, saved: dict[str, Any]) -> None:
        """From JSON."""
        try:
            self._labels = [Label(int(i), int(frame), float(score)) for i, frame, score in saved["labels"]]
            self._closed, self._open = [], 0
            self._decided, self._partial = int(saved["decided"]), str(saved["partial"])
            self._state = EndpointState(*map(int, saved["endpoint"]))
            self._windows = int(saved.get("windows", 0))
            self._voiced = [*map(int, saved["voiced"])] if "voiced" in saved else None
        except (KeyError, TypeError) as error:
            raise ValueError(f"not the state of a label reader: {error}") from None
