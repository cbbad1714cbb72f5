"""Modified beam search of a transducer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from riverrun.streaming import Example, State, StreamingModule

from ..joiner import Joiner
from ..predictors import LstmPredictor, StatelessPredictor
from .beam import Beam, BeamSearch, Choice, pick
from .transducer_greedy import begin, lively_joiner


@dataclass
class TransducerMemory(State):
    """What the predictor says next and remembers, for each hypothesis."""

    predicted: Tensor  # (slots, K, J), projected by the joiner
    predictor: State  # (slots, K, …)


class TransducerBeam(BeamSearch):
    """Beam search with at most one label a frame, equal hypotheses merged: (S, C, E) -> ``Committed``.

    icefall's ``modified_beam_search``, with hypotheses merged before the best are chosen rather than after.

    Args:
        predictor: label-side part, (S, C) labels -> (S, C, P).
        joiner: the network that combines both sides.
        beam, max_length, settle, blank, label_bonus: see ``BeamSearch``.
    """

    def __init__(
        self,
        predictor: StreamingModule,
        joiner: Joiner,
        beam: int = 4,
        max_length: int = 64,
        settle: int = 10,
        blank: int = 0,
        label_bonus: float = 0.0,
    ):
        super().__init__(beam, max_length, settle, blank, label_bonus)
        self.predictor, self.joiner = predictor, joiner

    @classmethod
    def examples(cls) -> Iterable[Example]:
        yield Example(cls(StatelessPredictor(5, 4), lively_joiner(3, 4, 6, 5)), (3,), tight=False, aligned=False)
        joiner, predictor = lively_joiner(3, 4, 6, 4), LstmPredictor(4, 4)
        yield Example(cls(predictor, joiner, beam=3, max_length=2, settle=2), (3,), tight=False, aligned=False)

    def begin(self, slots: int, like: Tensor) -> TransducerMemory:
        predicted, predictor = begin(self.predictor, self.joiner, slots * self.beam, self.blank, like)
        return TransducerMemory(predicted, predictor).map(lambda t: t.unflatten(0, (slots, self.beam)))

    def project(self, x: Tensor) -> Tensor:
        return self.joiner.project_encoder(x)

    def extend(self, frame: Tensor, state: Beam) -> tuple[Tensor, Tensor]:
        label_scores = self.joiner.join(frame[:, None], state.memory.predicted).log_softmax(-1)
        return state.log_probs[..., None] + label_scores, label_scores

    def follow(self, frame: Tensor, state: Beam, choice: Choice) -> TransducerMemory:
        memory: TransducerMemory = state.memory.map(lambda t: pick(t, choice.parents).flatten(0, 1))
        emitted = choice.emitted.flatten()
        y, _, predictor = self.predictor.step(choice.labels.reshape(-1, 1), emitted.long(), memory.predictor)
        predicted = torch.where(emitted[:, None], self.joiner.project_predictor(y[:, 0]), memory.predicted)
        return TransducerMemory(predicted, predictor).map(lambda t: t.unflatten(0, choice.parents.shape))
