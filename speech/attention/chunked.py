"""Chunked self-attention: a frame sees its chunk and a bounded past.

State per stream: keys and values of ``left`` frames, 2·left·dim numbers. A step over a chunk of C frames costs
O(C·(left + C)·dim). Both whole inputs and steps are operators of `riverrun.kernels`, which know the fastest way on each device.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from riverrun.kernels.step_attention import step_attention
from riverrun.kernels.window_attention import window_attention
from riverrun.streaming import Example, StreamingModule
from riverrun.streaming.graphs import Lent, SlotState

from .context import Context, Visibility
from .position import POSITIONS


@dataclass
class KeysValues(SlotState):
    """The past of an attention layer: rings in which frame n of a stream has row n mod ``left``."""

    keys: Tensor  # (slots, left, dim)
    values: Tensor  # (slots, left, dim)
    seen: Tensor  # (slots,) frames heard


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
        return self.whole(x, Visibility(self.context, lengths, x.shape[1])), lengths

    def whole(self, x: Tensor, mask: Tensor | Visibility) -> Tensor:
        """Whole inputs (B, T, dim) under what the caller made once for all layers: a `Visibility`, or any mask (B, T, T)."""
        q, k, v = self._heads(x)
        if isinstance(mask, Tensor):
            q, k, v = (t.transpose(1, 2) for t in (q, k, v))
            q, k, bias = self.position(q, k, 0)
            mask = mask[:, None] if bias is None else bias.masked_fill(~mask[:, None], -torch.inf)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2)
        else:
            seen = mask
            q, rotation, bias = self.position.by_distance(q, seen.chunk, seen.left)
            y = window_attention(
                q, k, v, seen.lengths, seen.chunk, seen.left, rotation=rotation, bias=bias, mask=lambda: seen.mask
            )  # fmt: skip
        return self.out(y.flatten(2))

    def weights(self, x: Tensor, mask: Tensor) -> Tensor:
        """Attention weights (B, heads, T, T) over whole inputs (B, T, dim) under a mask (B, T, T), computed openly: for looking at them."""
        q, k, _ = (t.transpose(1, 2) for t in self._heads(x))
        q, k, bias = self.position(q, k, 0)
        scores = q @ k.mT * q.shape[-1] ** -0.5
        return (scores if bias is None else scores + bias).masked_fill(~mask[:, None], -torch.inf).softmax(-1)

    def init_state(self, slots: int, like: Tensor) -> KeysValues:
        empty = like.new_zeros(slots, self.context.ring(), self.out.in_features)
        return KeysValues(empty, empty.clone(), torch.zeros(slots, dtype=torch.long, device=like.device))

    def step(self, x: Tensor, lengths: Tensor, state: KeysValues | Lent) -> tuple[Tensor, Tensor, KeysValues | Lent]:
        """Slots that are `Lent` change in place; any other state is left as it is."""
        chunk = self.unit
        lent = isinstance(state, Lent)
        pool, rows = (state.pool, state.rows) if isinstance(state, Lent) else (state.map(torch.clone), None)
        q, k, v = (t.to(pool.keys.dtype) for t in self._heads(x))
        q, rotation, bias = self.position.by_distance(q, chunk, pool.keys.shape[1])
        keys, values = (t.unflatten(-1, (self.heads, -1)) for t in (pool.keys, pool.values))
        y = step_attention(q, k, v, rows, lengths, keys, values, pool.seen, chunk, rotation=rotation, bias=bias)
        if rows is None:
            pool.seen.add_(lengths)
        else:
            pool.seen.index_add_(0, rows, lengths)
        return self.out(y.flatten(2)), lengths, state if lent else pool

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values (B, C, heads, dim / heads)."""
        q, k, v = (t.unflatten(-1, (self.heads, -1)) for t in self.qkv(x).chunk(3, -1))
        return q, k, v
