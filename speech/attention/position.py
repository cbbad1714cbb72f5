"""Relative positions for attention over a window of frames.

Both schemes depend on distances alone, so a live stream needs no absolute frame count: query i of a step stands
at position ``past + i`` of its window, key j at j. Tables are computed in float64, so that a whole-file forward
over many thousand frames agrees with a stream's small positions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar

import torch
from torch import Tensor, nn

P = ParamSpec("P")
T = TypeVar("T")

#: Position tables kept of each kind.
TABLES = 64


class Position(Protocol):
    """A position scheme, in the form that `torch.nn.functional.scaled_dot_product_attention` takes and in that of our kernels."""

    def __call__(self, q: Tensor, k: Tensor, past: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """Queries (B, H, C, d), keys (B, H, K, d) and an additive bias (B, H, C, K) or None. Query i stands at key ``past + i``."""

    def by_distance(self, q: Tensor, chunk: int, left: int) -> tuple[Tensor, tuple[Tensor, Tensor] | None, Tensor | None]:
        """The scheme for queries (B, C, H, d) that see ``left`` frames before chunks of ``chunk``, as our kernels take it.

        Returns:
            The queries; cos and sin (rows, d / 2) to rotate by, with at least left + C rows, or None; and a bias (B, H, C, W) or None,
            whose column n + chunk − 1 belongs to keys n frames back, W = left + 2·chunk − 1.
        """


class RotaryPosition(nn.Module):
    """RoPE (Su et al. 2021, "RoFormer"): queries and keys are rotated by angles proportional to position."""

    def __init__(self, dim: int, heads: int):
        super().__init__()
        if dim // heads % 2:
            raise ValueError(f"rotary positions need an even head size, not {dim // heads}")

    def forward(self, q: Tensor, k: Tensor, past: int) -> tuple[Tensor, Tensor, Tensor | None]:
        cos, sin = _rotation(_table_size(k.shape[2]), q.shape[-1], q.device, q.dtype)
        end = past + q.shape[2]
        return _rotate(q, cos[past:end], sin[past:end]), _rotate(k, cos[: k.shape[2]], sin[: k.shape[2]]), None

    def by_distance(self, q: Tensor, chunk: int, left: int) -> tuple[Tensor, tuple[Tensor, Tensor] | None, Tensor | None]:
        wide = torch.promote_types(q.dtype, torch.float32)
        return q, _rotation(_table_size(left + q.shape[1]), q.shape[-1], q.device, wide), None


class TransformerXLPosition(nn.Module):
    """Relative position with content and position biases (Dai et al. 2019, "Transformer-XL").

    Score of query i and key j: (q_i + u)·k_j + (q_i + v)·W r_{i-j}, with r the sinusoid of the distance.
    """

    def __init__(self, dim: int, heads: int):
        super().__init__()
        self.dim, self.heads = dim, heads
        self.project = nn.Linear(dim, dim, bias=False)
        self.content_bias = nn.Parameter(torch.zeros(heads, dim // heads))
        self.position_bias = nn.Parameter(torch.zeros(heads, dim // heads))

    def forward(self, q: Tensor, k: Tensor, past: int) -> tuple[Tensor, Tensor, Tensor | None]:
        queries, keys = q.shape[2], k.shape[2]
        furthest = max(past + queries - 1, keys - 1)
        distances = _sinusoid(furthest, self.dim, q.device, q.dtype)  # row n is distance n - furthest
        r = self.project(distances).unflatten(-1, (self.heads, -1)).transpose(0, 1)
        by_distance = (q + self.position_bias[:, None]) @ r.transpose(-1, -2)
        i = torch.arange(past, past + queries, device=q.device)[:, None]
        index = i - torch.arange(keys, device=q.device)[None] + furthest
        bias = by_distance.gather(-1, index.expand(*q.shape[:2], -1, -1)) * q.shape[-1] ** -0.5
        return q + self.content_bias[:, None], k, bias

    def by_distance(self, q: Tensor, chunk: int, left: int) -> tuple[Tensor, tuple[Tensor, Tensor] | None, Tensor | None]:
        furthest = left + chunk - 1
        distances = _sinusoid(furthest, self.dim, q.device, q.dtype)[left:]  # from 1 - chunk to the furthest
        r = self.project(distances).unflatten(-1, (self.heads, -1))
        bias = (q + self.position_bias).transpose(1, 2) @ r.permute(1, 2, 0) * q.shape[-1] ** -0.5
        return q + self.content_bias, None, bias


#: Position schemes by configuration name.
POSITIONS: dict[str, type[RotaryPosition] | type[TransformerXLPosition]] = {"rope": RotaryPosition, "transformer_xl": TransformerXLPosition}


def _table_size(frames: int) -> int:
    return max(64, 1 << (frames - 1).bit_length())  # few distinct sizes, so that the cache serves all lengths


def _kept(make: Callable[P, T]) -> Callable[P, T]:
    """Keep the last few tables on their devices. What a trace makes is no table of numbers, and is not kept."""
    tables: dict[Any, T] = {}

    @functools.wraps(make)
    def get(*key: P.args, **options: P.kwargs) -> T:
        found = tables.get(key)
        if found is not None:
            return found
        table = make(*key, **options)
        if not torch.compiler.is_compiling():
            if len(tables) >= TABLES:
                tables.pop(next(iter(tables)), None)
            tables[key] = table
        return table

    return get


@_kept
def _rotation(frames: int, dim: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):  # a table made while serving may be used in training later
        speed = 10000 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        angle = torch.arange(frames, dtype=torch.float64)[:, None] * speed
        return angle.cos().to(device, dtype), angle.sin().to(device, dtype)


@_kept
def _sinusoid(furthest: int, dim: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    with torch.inference_mode(False):
        speed = 10000 ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        angle = torch.arange(-furthest, furthest + 1, dtype=torch.float64)[:, None] * speed
        return torch.stack([angle.sin(), angle.cos()], -1).flatten(1).to(device, dtype)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
