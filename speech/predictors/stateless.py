"""A predictor that sees only the last few labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from riverrun.streaming import Example, State, StreamingModule, last_frames


@dataclass
class LastLabels(State):
    """The labels that the next prediction still sees; -1 before the first."""

    labels: Tensor  # (slots, context - 1)


class StatelessPredictor(StreamingModule):
    """Embedding, a grouped convolution over the last ``context`` labels, ReLU: (S, C) labels -> (S, C, dim).

    Ghodsi et al., "RNN-Transducer with stateless prediction network" (2020), in the form of icefall's ``Decoder``;
    places before the first label embed as zeros.

    Args:
        vocabulary: number of labels, blank included.
        dim: size of a prediction.
        context: labels that a prediction sees.
        groups: groups of the convolution; depthwise by default (icefall's zipformer recipes use ``dim // 4``).
    """

    def __init__(self, vocabulary: int, dim: int, context: int = 2, groups: int | None = None):
        super().__init__()
        self.vocabulary, self.dim, self.context, self.left = vocabulary, dim, context, context - 1
        self.embedding = nn.Embedding(vocabulary, dim)
        self.conv = nn.Conv1d(dim, dim, context, groups=dim if groups is None else groups, bias=False)

    @classmethod
    def examples(cls) -> Iterable[Example]:
        yield Example(cls(7, 8), (), vocabulary=7)
        yield Example(cls(5, 8, context=3, groups=2), (), vocabulary=5)
        yield Example(cls(5, 4, context=1), (), vocabulary=5)

    def init_state(self, slots: int, like: Tensor) -> LastLabels:
        return LastLabels(torch.full((slots, self.context - 1), -1, device=like.device))

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        embedded = nn.functional.pad(self.embedding(x), (0, 0, self.context - 1, 0))
        return self.conv(embedded.transpose(1, 2)).transpose(1, 2).relu(), lengths

    def step(self, x: Tensor, lengths: Tensor, state: LastLabels) -> tuple[Tensor, Tensor, LastLabels]:
        seen = torch.cat([state.labels, x], 1)
        embedded = self.embedding(seen.clamp(min=0)) * (seen >= 0)[..., None]
        # The convolution written out: for a single label, nn.Conv1d costs ten times as much.
        taps = torch.stack([embedded[:, k : k + x.shape[1]] for k in range(self.context)], -1)
        taps = taps.reshape(*x.shape, self.conv.groups, 1, self.dim // self.conv.groups, self.context)
        weight = self.conv.weight.unflatten(0, (self.conv.groups, -1))
        y = (taps * weight).sum((-1, -2)).flatten(2).relu()
        return y, lengths, LastLabels(last_frames(state.labels, x, lengths))
