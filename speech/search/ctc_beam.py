"""Prefix beam search of a CTC model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from riverrun.streaming import Example, State

from .beam import NEVER, Beam, BeamSearch, Choice


@dataclass
class CtcMemory(State):
    """How each hypothesis's probability divides: alignments that end in blank, and those that end in its last label (logarithms)."""

    blank: Tensor  # (slots, K)
    label: Tensor  # (slots, K)


class CtcBeam(BeamSearch):
    """Prefix beam search: (S, C, E) -> ``Committed``.

    Hannun et al., "First-pass large vocabulary continuous speech recognition using bi-directional recurrent DNNs" (2014).

    Args:
        projection: from an encoder frame to unnormalised log-probabilities of the vocabulary.
        beam, max_length, settle, blank, label_bonus: see ``BeamSearch``.
    """

    def __init__(
        self, projection: nn.Module, beam: int = 4, max_length: int = 64, settle: int = 10, blank: int = 0, label_bonus: float = 0.0
    ):
        super().__init__(beam, max_length, settle, blank, label_bonus)
        self.projection = projection

    @classmethod
    def examples(cls) -> Iterable[Example]:
        yield Example(cls(nn.Linear(3, 4)), (3,), tight=False, aligned=False)
        yield Example(cls(nn.Linear(3, 3), beam=3, max_length=2, settle=2), (3,), tight=False, aligned=False)

    def begin(self, slots: int, like: Tensor) -> CtcMemory:
        return CtcMemory(like.new_zeros(slots, self.beam), like.new_full((slots, self.beam), NEVER))

    def project(self, x: Tensor) -> Tensor:
        return self.projection(x).log_softmax(-1)

    def extend(self, frame: Tensor, state: Beam) -> tuple[Tensor, Tensor]:
        blank, label = self._stay(frame, state)
        after_blank, _ = self._shares(state)
        grown = state.log_probs[..., None] + frame[:, None]
        # A label that repeats the last one is new only after a blank.
        grown = grown.scatter(2, state.last[..., None], (after_blank + frame.gather(1, state.last))[..., None])
        grown[..., self.blank] = torch.logaddexp(blank, label)
        return grown, frame[:, None]

    def follow(self, frame: Tensor, state: Beam, choice: Choice) -> CtcMemory:
        blank, label = (part.gather(1, choice.parents) for part in self._stay(frame, state))
        label = torch.logaddexp(label, choice.arriving)
        blank = blank.masked_fill(choice.emitted, NEVER)
        label = torch.where(choice.emitted, choice.log_probs, label)
        there = choice.log_probs > NEVER
        return CtcMemory(*(torch.where(there, part - choice.log_probs, 0) for part in (blank, label)))

    def _shares(self, state: Beam) -> tuple[Tensor, Tensor]:
        """Log-probabilities (S, K) of the alignments that end in blank, and in the last label."""
        return state.log_probs + state.memory.blank, state.log_probs + state.memory.label

    def _stay(self, frame: Tensor, state: Beam) -> tuple[Tensor, Tensor]:
        """The same after a frame that adds no label."""
        _, after_label = self._shares(state)
        return state.log_probs + frame[:, self.blank, None], after_label + frame.gather(1, state.last)
