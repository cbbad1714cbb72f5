"""Chunked self-attention: a frame sees its chunk and a bounded past.

State per stream: keys and values of ``left`` frames, 2·left·dim numbers. A step over a chunk of C frames costs
O(C·(left + C)·dim).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from riverrun.streaming import Example, State, StreamingModule, last_frames, within

from .context import Context, attention_mask
from .position import POSITIONS


@dataclass
class KeysValues(State):
    """The past of an attention layer, newest frame last; rows before the ``filled`` newest are not real."""

    keys: Tensor  # (slots, left, dim)
    values: Tensor  # (slots, left, dim)
    filled: Tensor  # (slots,)


class ChunkedAttention(StreamingModule):
    """Multi-head self-attention under a `Context`.

    Chen et al. 2021, "Developing real-time streaming Transformer Transducer"; Zhang et al. 2020 for one model at many chunk sizes.

    Args:
        dim: model size; ``heads`` must divide it.
        heads: attention heads.
        context: what a frame sees; `at` gives views with another.
        position: "rope" or "transformer_xl".
    """

    def __init__(self, dim: int, heads: int, context: Context, position: str = "rope"):
        super().__init__()
        if dim % heads:
            raise ValueError(f"{heads} heads do not divide a model size of {dim}")
        if position not in POSITIONS:
            raise ValueError(f"unknown position scheme {position!r}: choose from {', '.join(POSITIONS)}")
        self.heads, self.context = heads, context
        self.qkv = nn.Linear(dim, 3 * dim)
        self.position = POSITIONS[position](dim, heads)
        self.out = nn.Linear(dim, dim)

    @classmethod
    def examples(cls) -> Iterable[Example]:
        yield Example(cls(8, 2, Context(4, 6)), (8,))
        yield Example(cls(8, 2, Context(3, 3), "transformer_xl"), (8,))
        yield Example(cls(8, 1, Context(2, 0)), (8,))

    @property
    def unit(self) -> int:  # type: ignore[override]
        return self.context.chunk or 1

    @property
    def left(self) -> int | None:  # type: ignore[override]
        return self.context.left

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.whole(x, attention_mask(self.context, lengths, x.shape[1])), lengths

    def whole(self, x: Tensor, mask: Tensor) -> Tensor:
        """Whole inputs (B, T, dim) under a mask (B, T, T) that the caller computes once for all layers."""
        q, k, v = self.qkv(x).chunk(3, -1)
        return self._attend(q, k, v, mask, 0)

    def init_state(self, slots: int, like: Tensor) -> KeysValues:
        empty = like.new_zeros(slots, self.context.ring(), self.out.in_features)
        return KeysValues(empty, empty.clone(), torch.zeros(slots, dtype=torch.long, device=like.device))

    def step(self, x: Tensor, lengths: Tensor, state: KeysValues) -> tuple[Tensor, Tensor, KeysValues]:
        past, here = state.keys.shape[1], x.shape[1]
        q, k, v = self.qkv(x).chunk(3, -1)
        t = torch.arange(-past, here, device=x.device)
        real = torch.cat([t[:past] >= -state.filled[:, None], within(lengths, here)], 1)
        mask = self.context.sees(t[past:], t) & real[:, None]
        y = self._attend(q, torch.cat([state.keys, k], 1), torch.cat([state.values, v], 1), mask, past)
        filled = (state.filled + lengths).clamp(max=past)
        return y, lengths, KeysValues(last_frames(state.keys, k, lengths), last_frames(state.values, v, lengths), filled)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, past: int) -> Tensor:
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        q, k, bias = self.position(q, k, past)
        mask = mask[:, None] if bias is None else bias.masked_fill(~mask[:, None], -torch.inf)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out(y.transpose(1, 2).flatten(2))
