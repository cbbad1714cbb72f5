"""One recording under many policies: what a model heard or said once is not computed again, and still counts as computed."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from riverrun.streaming import State
from riverrun.streaming.policies import Hypothesis

#: Sources and continuations kept; of a long recording, the oldest are forgotten and computed again where they are asked for.
_KEPT = 512


@dataclass
class Place(State):
    """What was done with the recording, (1, 4) int64: samples heard, frames forgotten, whether it has ended, samples before its restart."""

    at: Tensor


class Recall:
    """An attention model that hears one recording again and again, from its beginning, one stream at a time.

    The source follows from the place, and a continuation from place, prefix and language, whatever the policy: both are remembered.
    All else is the model's own.

    Attributes:
        spent: seconds of computing that all calls would have taken.
        took: seconds that they took.

    Args:
        model: an `riverrun.streaming.attention_model.AttentionModel`.
        device: where it runs.
    """

    def __init__(self, model: Any, device: str = "cpu"):
        self._model, self._waits = model, device.startswith("cuda")
        self._known: OrderedDict[Hashable, tuple[Any, float]] = OrderedDict()
        self._now: Any = None  # the model's own source at the place of the running stream
        self.spent = self.took = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def init_source(self, slots: int) -> Place:
        """The recording's beginning."""
        if slots != 1:
            raise ValueError(f"one stream at a time, not {slots}")
        self._now = self._recalled("init", lambda: self._model.init_source(1))
        return Place(torch.zeros(1, 4, dtype=torch.long))

    def hear(self, audio: Tensor, lengths: Tensor, source: Place) -> Place:
        """The next samples of the recording."""
        return self._move(source, 0, int(lengths[0]), lambda: self._model.hear(audio, lengths, self._now))

    def finish(self, source: Place) -> Place:
        """The recording's end."""
        return self._move(source, 2, 1, lambda: self._model.finish(self._now))

    def forget(self, source: Place, frames: Tensor) -> Place:
        """Forget the oldest frames."""
        return self._move(source, 1, int(frames[0]), lambda: self._model.forget(self._now, frames))

    def restart(self, source: Place, which: Tensor) -> Place:
        """Hear what follows as a recording of its own, if the model can."""
        begun, heard = int(source.at[0, 3]), int(source.at[0, 0])
        if not hasattr(self._model, "restart"):
            return source
        return self._move(source, 3, heard - begun, lambda: self._model.restart(self._now, which))

    def frames(self, source: Place) -> Tensor:
        """Frames held."""
        frames: Tensor = self._model.frames(self._now)
        return frames

    def source_words(self, source: Place) -> Tensor | None:
        """Words counted."""
        words: Tensor | None = self._recalled(("words", *source.at[0].tolist()), lambda: self._model.source_words(self._now))
        return words

    def generate(self, source: Place, slots: Sequence[int], prefixes: Sequence[Sequence[int]], language: str | None) -> list[Hypothesis]:
        """The continuation of the only stream."""
        key = ("said", *source.at[0].tolist(), tuple(prefixes[0]), language)
        said: list[Hypothesis] = self._recalled(key, lambda: self._model.generate(self._now, slots, prefixes, language))
        return said

    def _move(self, source: Place, axis: int, step: int, compute: Callable[[], Any]) -> Place:
        if not step:
            return source
        at = source.at.clone()
        at[0, axis] += step
        self._now = self._recalled(("source", *at[0].tolist()), compute)
        return Place(at)

    def _recalled(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        if key not in self._known:
            began = time.perf_counter()
            value = compute()
            if self._waits:
                torch.cuda.synchronize()
            seconds = time.perf_counter() - began
            self.took += seconds
            self._known[key] = value, seconds
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        value, seconds = self._known[key]
        self.spent += seconds
        return value
