"""Greedy search of a transducer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from riverrun.streaming import Causal, Example, State, StreamingModule

from ..joiner import Joiner
from ..predictors import LstmPredictor, StatelessPredictor
from .base import GreedySearch, Labels, possible


@dataclass
class TransducerGreedyState(State):
    """What the predictor says next and remembers, and the frames heard."""

    predicted: Tensor  # (slots, J), projected by the joiner
    predictor: State
    heard: Tensor  # (slots,)


class TransducerGreedy(GreedySearch, Causal):
    """The likeliest symbol again and again until it is blank, then the next frame: (S, C, E) -> ``Labels`` with W = ``max_symbols``.

    Graves, "Sequence transduction with recurrent neural networks" (2012), with at most ``max_symbols`` labels a frame.
    No host synchronisation off the CPU.

    Args:
        predictor: label-side part, (S, C) labels -> (S, C, P).
        joiner: the network that combines both sides.
        max_symbols: most labels that one frame may emit.
        blank: id of the blank.

    Raises:
        ValueError: ``max_symbols`` below 1.
    """

    def __init__(self, predictor: StreamingModule, joiner: Joiner, max_symbols: int = 3, blank: int = 0):
        super().__init__()
        if max_symbols < 1:
            raise ValueError(f"max_symbols is {max_symbols}: a frame must be allowed at least one label")
        self.predictor, self.joiner, self.max_symbols, self.blank = predictor, joiner, max_symbols, blank

    @classmethod
    def examples(cls) -> Iterable[Example]:
        yield Example(cls(StatelessPredictor(5, 4), lively_joiner(3, 4, 6, 5)), (3,), tight=False)
        yield Example(cls(LstmPredictor(5, 4), lively_joiner(3, 4, 6, 5), max_symbols=1), (3,), tight=False)

    @torch.no_grad()
    def init_state(self, slots: int, like: Tensor) -> TransducerGreedyState:
        return TransducerGreedyState(*begin(self.predictor, self.joiner, slots, self.blank, like), like.new_zeros(slots, dtype=torch.long))

    def step(self, x: Tensor, lengths: Tensor, state: TransducerGreedyState) -> tuple[Labels, Tensor, TransducerGreedyState]:
        encoded = self.joiner.project_encoder(x)
        ids = torch.full((*x.shape[:2], self.max_symbols), -1, device=x.device)
        scores = encoded.new_zeros(ids.shape)
        predicted, memory = state.predicted, state.predictor
        for t in range(x.shape[1]):
            active = t < lengths
            for i in range(self.max_symbols):
                best, label = self.joiner.join(encoded[:, t], predicted).log_softmax(-1).max(-1)
                active = active & (label != self.blank)
                if not possible(active):
                    break
                ids[:, t, i] = torch.where(active, label, -1)
                scores[:, t, i] = torch.where(active, best, 0)
                with torch.no_grad():  # a choice has no gradient, and a stream's graph would grow for ever
                    y, _, memory = self.predictor.step(label[:, None], active.long(), memory)
                    predicted = torch.where(active[:, None], self.joiner.project_predictor(y[:, 0]), predicted)
        return Labels(ids, scores), lengths, TransducerGreedyState(predicted, memory, state.heard + lengths)


def begin(predictor: StreamingModule, joiner: Joiner, streams: int, blank: int, like: Tensor) -> tuple[Tensor, State]:
    """The projected prediction (streams, J) of the first label, and the predictor's state: both after one blank."""
    start = torch.full((streams, 1), blank, device=like.device)
    y, _, memory = predictor.step(start, torch.ones_like(start[:, 0]), predictor.init_state(streams, like))
    return joiner.project_predictor(y[:, 0]), memory


def lively_joiner(encoder_dim: int, predictor_dim: int, dim: int, vocabulary: int) -> Joiner:
    """A random joiner for examples, sharp enough that random frames emit labels and blanks in turn."""
    joiner = Joiner(encoder_dim, predictor_dim, dim, vocabulary)
    with torch.no_grad():
        for parameter in joiner.parameters():
            nn.init.normal_(parameter)
    return joiner
