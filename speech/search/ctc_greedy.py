"""Best path of a CTC model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from riverrun.streaming import Causal, Example, State, last_frames

from .base import GreedySearch, Labels


@dataclass
class CtcGreedyState(State):
    """The likeliest symbol of the last frame, and the frames heard."""

    last: Tensor  # (slots, 1)
    heard: Tensor  # (slots,)


class CtcGreedy(GreedySearch, Causal):
    """The likeliest symbol of each frame, repeats and blanks removed: (S, C, E) -> ``Labels`` with W = 1.

    Graves et al., "Connectionist temporal classification" (2006), best path decoding.

    Args:
        projection: from an encoder frame to unnormalised log-probabilities of the vocabulary.
        blank: id of the blank.
    """

    left = 1

    def __init__(self, projection: nn.Module, blank: int = 0):
        super().__init__()
        self.projection, self.blank = projection, blank

    @classmethod
    def examples(cls) -> Iterable[Example]:
        yield Example(cls(nn.Linear(3, 4)), (3,), tight=False)

    def init_state(self, slots: int, like: Tensor) -> CtcGreedyState:
        last = torch.full((slots, 1), self.blank, device=like.device)
        return CtcGreedyState(last, torch.zeros_like(last[:, 0]))

    def step(self, x: Tensor, lengths: Tensor, state: CtcGreedyState) -> tuple[Labels, Tensor, CtcGreedyState]:
        scores, ids = self.projection(x).log_softmax(-1).max(-1)
        before = torch.cat([state.last, ids[:, :-1]], 1)[:, : ids.shape[1]]
        new = (ids != self.blank) & (ids != before)
        labels = Labels(torch.where(new, ids, -1)[..., None], torch.where(new, scores, 0)[..., None])
        return labels, lengths, CtcGreedyState(last_frames(state.last, ids, lengths), state.heard + lengths)
