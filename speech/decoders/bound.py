"""A decoder over one given source, as a part with a time axis of its own: its labels."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from riverrun.streaming import Example, StreamingModule

from .transformer import DecoderConfig, DecoderState, TransformerDecoder


class BoundDecoder(StreamingModule):
    """Labels (S, U) -> scores of the next label (S, U, outputs), every slot a hypothesis over the same source.

    Args:
        decoder: the network.
        source: (T, source dim) encoder frames, at least one.
    """

    def __init__(self, decoder: TransformerDecoder, source: Tensor):
        super().__init__()
        self.decoder = decoder
        self.register_buffer("source", source, persistent=False)
        self.source: Tensor
        # every layer's reach adds up
        self.left = decoder.config.left * decoder.config.layers

    @classmethod
    def examples(cls) -> Iterable[Example]:
        config = DecoderConfig(dim=8, layers=2, heads=2, feed_forward=12, left=3)
        yield Example(cls(TransformerDecoder(config, 7, 6, 5), torch.randn(4, 5)), (), vocabulary=7)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.decoder(x, lengths, *self._sources(len(x))), lengths

    def init_state(self, slots: int, like: Tensor) -> DecoderState:
        return self.decoder.init_state(*self._sources(slots))

    def step(self, x: Tensor, lengths: Tensor, state: DecoderState) -> tuple[Tensor, Tensor, DecoderState]:
        scores, state = self.decoder.step(x, lengths, state)
        return scores, lengths, state

    def _sources(self, slots: int) -> tuple[Tensor, Tensor]:
        return self.source.expand(slots, -1, -1), torch.full((slots,), len(self.source), device=self.source.device)
