"""Global soft attention: every label looks at the whole source (Bahdanau et al. 2015; multi-head, Vaswani et al. 2017).

Reading a source of T frames costs O(T·dim²) once; a label step O(T·dim). Nothing is kept from label to label.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from riverrun.streaming import within

from .base import CrossAttention, Memory


class GlobalAttention(CrossAttention):
    """Multi-head scaled dot-product attention over all source frames.

    Args:
        dim: size of label steps and of the result; ``heads`` must divide it.
        source_dim: size of encoder frames.
        heads: attention heads.
    """

    def __init__(self, dim: int, source_dim: int, heads: int):
        super().__init__()
        if dim % heads:
            raise ValueError(f"{heads} heads do not divide a decoder size of {dim}")
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(source_dim, 2 * dim)
        self.out = nn.Linear(dim, dim)

    def read(self, source: Tensor, frames: Tensor) -> Memory:
        keys, values = self.key_value(source).chunk(2, -1)
        return Memory(keys, values, frames.clone())  # a state shares no tensor with another

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        q, k, v = (self._split(t) for t in (self.query(x), memory.keys, memory.values))
        mask = within(memory.frames, k.shape[2])[:, None, None]
        return self._join(F.scaled_dot_product_attention(q, k, v, attn_mask=mask))

    def weights(self, x: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        q, k, v = (self._split(t) for t in (self.query(x), memory.keys, memory.values))
        scores = (q @ k.transpose(-1, -2)).float() * q.shape[-1] ** -0.5
        weights = scores.masked_fill(~within(memory.frames, k.shape[2])[:, None, None], -torch.inf).softmax(-1)
        return self._join(weights.to(v.dtype) @ v), weights

    def _split(self, t: Tensor) -> Tensor:
        return t.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def _join(self, y: Tensor) -> Tensor:
        return self.out(y.transpose(1, 2).flatten(2))
