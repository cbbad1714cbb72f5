"""What every cross-attention gives: the source read once into explicit keys and values, and a look at it for each label."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from riverrun.streaming import Nothing, State


@dataclass
class Memory(State):
    """Keys and values of a source; rows from ``frames`` on are padding."""

    keys: Tensor  # (slots, T, dim)
    values: Tensor  # (slots, T, dim)
    frames: Tensor  # (slots,) int64, at least 1 wherever a label looks


class CrossAttention(nn.Module, ABC):
    """Attention of label steps (S, U, dim) over a source that does not change while labels are written.

    A variant whose look depends on where it looked before (a pointer, the last weights) keeps that in a state of its own, which
    ``step`` takes and returns; those that look afresh for every label keep nothing.
    """

    @abstractmethod
    def read(self, source: Tensor, frames: Tensor) -> Memory:
        """Keys and values of encoder frames (S, T, source dim), (S,)."""

    @abstractmethod
    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        """All label steps (S, U, dim) at once -> (S, U, dim)."""

    @abstractmethod
    def weights(self, x: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """As ``forward``, computed openly: the result and the weights (S, heads, U, T), float32, zero on padding."""

    def init_state(self, memory: Memory) -> State:
        """State before the first label."""
        return Nothing()

    def step(self, x: Tensor, lengths: Tensor, memory: Memory, state: State) -> tuple[Tensor, State]:
        """The next label steps (S, C, dim), (S,) -> (S, C, dim) and the state after them."""
        return self.forward(x, memory), state
