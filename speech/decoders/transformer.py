"""Transformer decoder (Vaswani et al. 2017), pre-norm, whose past is an explicit, bounded state.

Self-attention is `ChunkedAttention` with chunks of one label: a label sees itself and ``left`` labels before it, by relative position,
so that a text may go on for ever. State per text: keys and values of ``left`` labels in each layer, and those of the source.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from riverrun.streaming import State
from riverrun.streaming.graphs import Lent

from ..attention import ChunkedAttention, Context, attention_mask
from ..attention.chunked import KeysValues
from ..cross_attention import GlobalAttention, Memory


@dataclass(frozen=True)
class DecoderConfig:
    """Shape of a Transformer decoder.

    Attributes:
        dim: model size.
        layers: number of layers.
        heads: attention heads, in self- and cross-attention; they divide ``dim``.
        feed_forward: inner size of the feed-forward modules.
        left: labels before it that a label sees.
        dropout: probability, in training.
    """

    dim: int = 256
    layers: int = 6
    heads: int = 4
    feed_forward: int = 768
    left: int = 160
    dropout: float = 0.2

    def __post_init__(self) -> None:
        if self.layers < 1 or self.left < 1:
            raise ValueError(f"a decoder needs at least 1 layer and 1 label of past, not {self.layers} and {self.left}")


@dataclass
class DecoderLayerState(State):
    """What one layer keeps of a text: its own past, the source, and where it looked."""

    past: KeysValues | Lent
    memory: Memory
    look: State


@dataclass
class DecoderState(State):
    """A text in the middle of being written, for each slot."""

    layers: list[DecoderLayerState]


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention, feed-forward, each behind a layer norm and added to what came in."""

    def __init__(self, config: DecoderConfig, source_dim: int):
        super().__init__()
        dim = config.dim
        self.attention_norm, self.cross_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attention = ChunkedAttention(dim, config.heads, Context(1, config.left))
        self.cross = GlobalAttention(dim, source_dim, config.heads)
        self.dropout = nn.Dropout(config.dropout)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(dim),
            nn.Linear(dim, config.feed_forward),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.feed_forward, dim),
            nn.Dropout(config.dropout),
        )

    def forward(self, x: Tensor, mask: Tensor, source: Tensor, frames: Tensor) -> Tensor:
        """Whole texts (B, U, dim) under a label mask (B, U, U) over encoder frames (B, T, source dim), (B,)."""
        x = x + self.dropout(self.attention.whole(self.attention_norm(x), mask))
        x = x + self.dropout(self.cross(self.cross_norm(x), self.cross.read(source, frames)))
        return x + self.feed_forward(x)

    def watched(self, x: Tensor, mask: Tensor, source: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """As ``forward``, with the cross-attention weights (B, heads, U, T) beside the result."""
        x = x + self.attention.whole(self.attention_norm(x), mask)
        looked, weights = self.cross.weights(self.cross_norm(x), self.cross.read(source, frames))
        x = x + looked
        return x + self.feed_forward(x), weights

    def init_state(self, source: Tensor, frames: Tensor) -> DecoderLayerState:
        """State of texts that have no label yet."""
        memory = self.cross.read(source, frames)
        return DecoderLayerState(self.attention.init_state(len(source), source), memory, self.cross.init_state(memory))

    def step(self, x: Tensor, lengths: Tensor, state: DecoderLayerState) -> tuple[Tensor, DecoderLayerState]:
        """The next labels (S, C, dim), (S,) of each text."""
        y, _, past = self.attention.step(self.attention_norm(x), lengths, state.past)
        x = x + self.dropout(y)
        y, look = self.cross.step(self.cross_norm(x), lengths, state.memory, state.look)
        x = x + self.dropout(y)
        return x + self.feed_forward(x), DecoderLayerState(past, state.memory, look)


class TransformerDecoder(nn.Module):
    """Labels (B, U) over a source -> scores of the label after each, (B, U, outputs).

    The output layer is the embedding of the first ``outputs`` labels (Press and Wolf 2017); further labels (language tags) are read,
    never written.

    Args:
        config: shape.
        vocabulary: labels that can be read.
        outputs: labels that can be written, the first ones of the vocabulary.
        source_dim: size of encoder frames.
    """

    def __init__(self, config: DecoderConfig, vocabulary: int, outputs: int, source_dim: int):
        super().__init__()
        self.config, self.vocabulary, self.outputs, self.source_dim = config, vocabulary, outputs, source_dim
        self.embedding = nn.Embedding(vocabulary, config.dim)
        nn.init.normal_(self.embedding.weight, std=config.dim**-0.5)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(DecoderLayer(config, source_dim) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.dim)

    def _layers(self) -> list[DecoderLayer]:
        return list(self.layers)  # type: ignore[arg-type]

    def forward(self, labels: Tensor, lengths: Tensor, source: Tensor, frames: Tensor) -> Tensor:
        """Scores (B, U, outputs) after each of the labels (B, U), (B,), over encoder frames (B, T, source dim), (B,)."""
        x, mask = self._embed(labels), self._mask(labels, lengths)
        for layer in self._layers():
            x = layer(x, mask, source, frames)
        return self._scores(x)

    def watched(self, labels: Tensor, lengths: Tensor, source: Tensor, frames: Tensor) -> tuple[Tensor, Tensor]:
        """As ``forward``, with the cross-attention weights (B, layers, heads, U, T) float32 beside the scores, computed openly.

        Row u is where the label *after* ``labels[u]`` was looked for. For networks in evaluation mode: there is no dropout here.
        """
        x, mask, looks = self._embed(labels), self._mask(labels, lengths), []
        for layer in self._layers():
            x, weights = layer.watched(x, mask, source, frames)
            looks.append(weights)
        return self._scores(x), torch.stack(looks, 1)

    def init_state(self, source: Tensor, frames: Tensor) -> DecoderState:
        """Texts without a label over encoder frames (S, T, source dim), (S,)."""
        return DecoderState([layer.init_state(source, frames) for layer in self._layers()])

    def step(self, labels: Tensor, lengths: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """The next labels (S, C), (S,) of each text -> scores (S, C, outputs) and the texts with them; a length of 0 changes nothing."""
        x, after = self._embed(labels), []
        for layer, before in zip(self._layers(), state.layers, strict=True):
            x, new = layer.step(x, lengths, before)
            after.append(new)
        return self._scores(x), DecoderState(after)

    def _embed(self, labels: Tensor) -> Tensor:
        return self.dropout(self.embedding(labels) * self.config.dim**0.5)

    def _mask(self, labels: Tensor, lengths: Tensor) -> Tensor:
        return attention_mask(Context(1, self.config.left), lengths, labels.shape[1])

    def _scores(self, x: Tensor) -> Tensor:
        return F.linear(self.norm(x), self.embedding.weight[: self.outputs])
