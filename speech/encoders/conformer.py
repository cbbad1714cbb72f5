"""Conformer encoder (Gulati et al. 2020) that streams: chunked attention, causal convolution, subsampling by 4."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from riverrun.kernels.convolution import causal_convolution, causal_convolution_step
from riverrun.streaming import Example, State, States, StreamingModule, left_of, zero_padding
from riverrun.streaming.graphs import Lent, SlotState

from ..attention import ATTENTIONS, Context, Visibility
from ..attention.chunked import KeysValues
from .subsampling import ConvSubsampling


@dataclass(frozen=True)
class ConformerConfig:
    """Shape of a Conformer encoder.

    Attributes:
        bins: log-mel bins of an input frame.
        dim: model size.
        layers: number of layers.
        heads: attention heads; they divide ``dim``.
        feed_forward: inner size of the two feed-forward modules.
        kernel: frames that the causal convolution spans.
        subsampling_channels: channels of the convolutional front.
        position: "rope" or "transformer_xl".
        dropout: probability, in training.
        attention: a name of `riverrun.speech.attention.ATTENTIONS`.
    """

    bins: int = 80
    dim: int = 192
    layers: int = 10
    heads: int = 4
    feed_forward: int = 768
    kernel: int = 15
    subsampling_channels: int = 64
    position: str = "rope"
    dropout: float = 0.1
    attention: str = "chunked"

    def __post_init__(self) -> None:
        if self.attention not in ATTENTIONS:
            raise ValueError(f"unknown attention {self.attention!r}: choose from {', '.join(ATTENTIONS)}")


class FeedForward(nn.Sequential):
    """Pre-normalised feed-forward module with SiLU."""

    def __init__(self, dim: int, inner: int, dropout: float):
        super().__init__(
            nn.LayerNorm(dim), nn.Linear(dim, inner), nn.SiLU(), nn.Dropout(dropout), nn.Linear(inner, dim), nn.Dropout(dropout)
        )


@dataclass
class GatedFrames(SlotState):
    """The past of a convolution module, behind its gate."""

    frames: Tensor  # (slots, kernel - 1, dim)


class CausalConvolution(StreamingModule):
    """Conformer's convolution module with the past only: GLU, depthwise convolution, layer norm, SiLU.

    State per stream: kernel - 1 frames of ``dim`` numbers. What lies between the two linear layers is an operator of `riverrun.kernels`.
    """

    def __init__(self, dim: int, kernel: int, dropout: float):
        super().__init__()
        self.left = kernel - 1
        self.norm = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, 2 * dim)
        self.depthwise = nn.Conv1d(dim, dim, kernel, groups=dim)
        self.inner_norm = nn.LayerNorm(dim)
        self.project = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)

    @classmethod
    def examples(cls) -> Iterable[Example]:
        yield Example(cls(6, 5, 0.0), (6,))

    def init_state(self, slots: int, like: Tensor) -> GatedFrames:
        return GatedFrames(like.new_zeros(slots, self.depthwise.kernel_size[0] - 1, self.depthwise.in_channels))

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.whole(x), lengths

    def whole(self, x: Tensor) -> Tensor:
        """Whole inputs (B, T, dim). Causal, so what is behind an end touches nothing before it."""
        return self.dropout(self.project(causal_convolution(self.expand(self.norm(x)), *self._middle())))

    def step(self, x: Tensor, lengths: Tensor, state: GatedFrames | Lent) -> tuple[Tensor, Tensor, GatedFrames | Lent]:
        """Slots that are `Lent` change in place; any other state is left as it is."""
        lent = isinstance(state, Lent)
        pool, rows = (state.pool, state.rows) if isinstance(state, Lent) else (state.map(torch.clone), None)
        expanded = self.expand(self.norm(x)).to(pool.frames.dtype)
        y = causal_convolution_step(expanded, rows, lengths, pool.frames, *self._middle())
        return self.dropout(self.project(y)), lengths, state if lent else pool

    def _middle(self) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
        bias: Tensor = self.depthwise.bias  # type: ignore[assignment]  # it has one
        return self.depthwise.weight, bias, self.inner_norm.weight, self.inner_norm.bias, self.inner_norm.eps


@dataclass
class LayerState(State):
    """State of one Conformer layer."""

    attention: KeysValues | Lent
    convolution: GatedFrames | Lent


class ConformerLayer(StreamingModule):
    """Half feed-forward, attention, convolution, half feed-forward, layer norm."""

    def __init__(self, config: ConformerConfig, context: Context):
        super().__init__()
        dim, dropout = config.dim, config.dropout
        self.feed_in = FeedForward(dim, config.feed_forward, dropout)
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = ATTENTIONS[config.attention](dim, config.heads, context, config.position)
        self.dropout = nn.Dropout(dropout)
        self.convolution = CausalConvolution(dim, config.kernel, dropout)
        self.feed_out = FeedForward(dim, config.feed_forward, dropout)
        self.norm = nn.LayerNorm(dim)

    @classmethod
    def examples(cls) -> Iterable[Example]:
        yield Example(cls(ConformerConfig(dim=8, heads=2, feed_forward=12, kernel=3), Context(3, 6)), (8,))

    @property
    def unit(self) -> int:  # type: ignore[override]
        return self.attention.unit

    @property
    def left(self) -> int | None:  # type: ignore[override]
        return left_of([self.attention, self.convolution])

    def forward(self, x: Tensor, lengths: Tensor, mask: Tensor | Visibility | None = None) -> tuple[Tensor, Tensor]:
        """``mask``, if given, is what frames may look at, made once for all layers: a `Visibility` or a mask (B, T, T)."""
        mask = Visibility(self.attention.context, lengths, x.shape[1]) if mask is None else mask
        x = x + 0.5 * self.feed_in(x)
        x = x + self.dropout(self.attention.whole(self.attention_norm(x), mask))
        x = x + self.convolution.whole(x)
        x = x + 0.5 * self.feed_out(x)
        return self.norm(x), lengths

    def init_state(self, slots: int, like: Tensor) -> LayerState:
        return LayerState(self.attention.init_state(slots, like), self.convolution.init_state(slots, like))

    def step(self, x: Tensor, lengths: Tensor, state: LayerState) -> tuple[Tensor, Tensor, LayerState]:
        x = x + 0.5 * self.feed_in(x)
        y, _, attention = self.attention.step(self.attention_norm(x), lengths, state.attention)
        x = x + self.dropout(y)
        y, _, convolution = self.convolution.step(x, lengths, state.convolution)
        x = x + y
        x = x + 0.5 * self.feed_out(x)
        return self.norm(x), lengths, LayerState(attention, convolution)


class ConformerEncoder(StreamingModule):
    """Log-mel frames (S, T, bins) -> (S, ⌈T/4⌉, dim).

    One set of weights serves full context and every chunk size: train it under varying contexts, and serve a view
    made with `riverrun.speech.attention.at`.
    """

    def __init__(self, config: ConformerConfig, context: Context):
        super().__init__()
        self.config, self.context = config, context
        self.subsampling = ConvSubsampling(config.bins, config.dim, config.subsampling_channels)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(ConformerLayer(config, context) for _ in range(config.layers))
        self.stride = self.subsampling.stride

    @classmethod
    def examples(cls) -> Iterable[Example]:
        tiny = ConformerConfig(bins=6, dim=8, layers=2, heads=2, feed_forward=12, kernel=3, subsampling_channels=2)
        yield Example(cls(tiny, Context(2, 3)), (6,))

    @property
    def unit(self) -> int:  # type: ignore[override]
        return self.stride * (self.context.chunk or 1)

    @property
    def left(self) -> int | None:  # type: ignore[override]
        return left_of([self.subsampling, *self._layers()])

    @property
    def residual_dtype(self) -> torch.dtype:
        """What layers pass on, under autocast too, whose subsampling gives less: else the first of them would be compiled for itself."""
        return next(self.layers.parameters()).dtype

    def _layers(self) -> list[ConformerLayer]:
        return list(self.layers)  # type: ignore[arg-type]

    def forward(
        self,
        x: Tensor,
        lengths: Tensor,
        context: Context | None = None,
        after: Callable[[int, Tensor], None] | None = None,
        depth: int | None = None,
        pool: int = 1,
        dense: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Whole inputs; training, and only training, has wishes.

        Args:
            x: (B, T, bins).
            lengths: (B,).
            context: in place of the encoder's own for this pass: training draws one per step.
            after: called with each layer's number, from 1, and its output; first with 0 and what enters the layers.
            depth: how many of the layers there are, from the first.
            pool: how many subsampled frames are averaged into one, before the layers.
            dense: say what frames see by one mask (B, T', T') for all layers: compiled, they then need no new code for a new context.
        """
        x, lengths = self.subsampling(x, lengths)
        if pool > 1:
            x = F.avg_pool1d(zero_padding(x, lengths).transpose(1, 2), pool, ceil_mode=True).transpose(1, 2)
            lengths = -(-lengths // pool)
        seen = Visibility(context or self.context, lengths, x.shape[1])
        mask = seen.mask if dense else seen
        x = self.dropout(zero_padding(x, lengths)).to(self.residual_dtype)
        if after is not None:
            after(0, x)
        for number, layer in enumerate(self._layers()[:depth], 1):
            x, _ = layer(x, lengths, mask)
            if after is not None:
                after(number, x)
        return x, lengths

    def init_state(self, slots: int, like: Tensor) -> States:
        return States([self.subsampling.init_state(slots, like), *(layer.init_state(slots, like) for layer in self._layers())])

    def step(self, x: Tensor, lengths: Tensor, state: States) -> tuple[Tensor, Tensor, States]:
        after: list[State] = []
        for part, before in zip([self.subsampling, *self._layers()], state.parts, strict=True):
            x, lengths, new = part.step(x, lengths, before)
            after.append(new)
        return x, lengths, States(after)
