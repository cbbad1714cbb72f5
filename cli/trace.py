"""What a translator looked at when it wrote: for plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from riverrun.streaming.policies import Hypothesis
from riverrun.streaming.translation_reader import Said
from riverrun.streaming.translator import Translating, Translator


@dataclass(frozen=True)
class Written:
    """A token that was written for good.

    Attributes:
        text: of it, with the space before it if it begins a word.
        at_ms: source heard when it was written.
        first_frame: the source frame, counted from the stream's beginning, of ``attention``'s first column.
        attention: (frames,) float16, as the policy saw it, the sink frame included; empty of a model without attention.
    """

    text: str
    at_ms: float
    first_frame: int
    attention: NDArray[np.float16]


class _Watched:
    """An attention model that remembers what it said of the first stream, and how many frames that has forgotten."""

    def __init__(self, model: Any):
        self._model = model
        self.said: list[tuple[int, Hypothesis]] = []
        self._forgotten = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def generate(self, source: Any, slots: Sequence[int], prefixes: Sequence[Sequence[int]], language: str | None) -> list[Hypothesis]:
        hypotheses: list[Hypothesis] = self._model.generate(source, slots, prefixes, language)
        self.said += [(self._forgotten, hypothesis) for slot, hypothesis in zip(slots, hypotheses, strict=True) if slot == 0]
        return hypotheses

    def forget(self, source: Any, frames: Tensor) -> Any:
        self._forgotten += int(frames[0])
        return self._model.forget(source, frames)


class TracedTranslator(Translator):
    """A translator of one stream that keeps what it wrote, with the attention behind it; arguments as of `Translator`.

    Memory grows with the text, so it is for recordings that are to be looked at.

    Attributes:
        written: tokens in order.
    """

    def __init__(self, model: Any, *arguments: Any, **options: Any):
        self._watched = _Watched(model)
        super().__init__(self._watched, *arguments, **options)
        self.written: list[Written] = []

    def step(self, audio: Tensor, lengths: Tensor, state: Translating) -> tuple[Said, Translating]:
        said, state = super().step(audio, lengths, state)
        self._keep(said)
        return said, state

    def flush(self, state: Translating) -> Said:
        said = super().flush(state)
        self._keep(said)
        return said

    def _keep(self, said: Said) -> None:
        hypotheses = iter(self._watched.said)
        for decision in said.decisions[0]:
            tokens = tuple(shown.token for shown in (*decision.written, *decision.tail))
            if not tokens:
                continue
            first, hypothesis = next((f, h) for f, h in hypotheses if h.tokens[: len(tokens)] == tokens)
            for token, starts, row in zip(tokens[: len(decision.written)], hypothesis.starts, hypothesis.attention, strict=False):
                text = (" " if starts else "") + self.model.decode([token])
                self.written.append(Written(text, decision.at_ms, first, row.to(torch.float16).numpy()))
        self._watched.said.clear()
