"""The contract that every time-dependent part follows.

The law: for every way of cutting an input into pieces, feeding the pieces to ``step`` and then calling
``flush`` gives the same output as ``forward`` on the whole input; for every slot of a batch, across saving and
loading the state, in every implementation of the part. Tolerance: 1e-9 relative in float64, 1e-4 in float32.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from .state import Nothing, State, States, last_frames, within

#: What a part puts out: a tensor (slots, frames, …) or a named tuple of such tensors.
Output = Any


@dataclass(frozen=True)
class Example:
    """A tiny instance of a part, on which the law is tested.

    Attributes:
        module: the part, randomly initialised.
        frame: shape of one input frame.
        vocabulary: for a part that reads integers, their upper bound; None for a part that reads floats.
        tight: whether the declared ``left`` and ``lookahead`` are reached (a part that only waits reaches neither).
        aligned: whether output t belongs to input frames [t·stride, (t+1)·stride).
    """

    module: StreamingModule
    frame: tuple[int, ...]
    vocabulary: int | None = None
    tight: bool = True
    aligned: bool = True


class StreamingModule(nn.Module, ABC):
    """A network part with a time axis: ``forward`` for whole inputs, ``step`` and ``flush`` for live ones.

    What an output frame depends on is declared, and proven by a test. Let a group be lcm(unit, stride) input
    frames, and ``start`` and ``end`` the bounds of the group that holds input frames [t·stride, (t+1)·stride):
    output t depends on no input before ``start - left``, and on none from ``end + lookahead`` on.
    """

    stride: int = 1  #: input frames per output frame
    lookahead: int = 0  #: input frames after the group that an output needs or waits for
    left: int | None = 0  #: input frames before the group that an output can depend on; None: all of them
    unit: int = 1  #: mid-stream, every step brings a whole number of units (a chunk, for chunked attention)

    #: Every concrete part, in order of definition: the law test runs over this list.
    registry: ClassVar[list[type[StreamingModule]]] = []

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        StreamingModule.registry.append(cls)

    @classmethod
    def examples(cls) -> Iterable[Example]:
        """Tiny instances for the law test; every concrete part gives at least one."""
        return ()

    @abstractmethod
    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Output, Tensor]:
        """Whole inputs: (B, T, …), (B,) -> (B, T', …), (B,). Frames beyond a length may hold any finite values."""

    @abstractmethod
    def init_state(self, slots: int, like: Tensor) -> State:
        """State of ``slots`` streams that have heard nothing, with the device and float dtype of ``like``."""

    @abstractmethod
    def step(self, x: Tensor, lengths: Tensor, state: Any) -> tuple[Output, Tensor, Any]:
        """One piece for each slot: (S, C, …), (S,), state -> (S, C', …), (S,), new state.

        ``lengths[s]`` is a multiple of ``unit`` mid-stream, anything up to C in a stream's last step, and 0 for a
        slot with nothing to say, which keeps its state bit for bit.
        """

    def flush(self, state: Any) -> tuple[Output, Tensor] | None:
        """The tail that was waiting for lookahead, for streams that have ended: (S, C', …), (S,). None if nothing ever waits."""
        return None


class Causal(StreamingModule):
    """A part whose ``forward`` is one big ``step`` from the initial state."""

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Output, Tensor]:
        y, lengths, _ = self.step(x, lengths, self.init_state(len(x), x))
        return y, lengths


class PerFrame(Causal):
    """A part that maps each frame by itself and keeps no state."""

    @abstractmethod
    def map(self, x: Tensor) -> Tensor:
        """Frames (S, C, …) -> (S, C, …)."""

    def init_state(self, slots: int, like: Tensor) -> Nothing:
        return Nothing()

    def step(self, x: Tensor, lengths: Tensor, state: Nothing) -> tuple[Tensor, Tensor, Nothing]:
        return self.map(x), lengths, state


class Rechunk(StreamingModule):
    """Identity that takes pieces of any size and passes on whole chunks; ``flush`` gives the remainder.

    It stands before parts whose ``unit`` is larger than what arrives.
    """

    def __init__(self, chunk: int, frame: tuple[int, ...]):
        super().__init__()
        self.chunk, self.frame = chunk, frame
        self.lookahead = chunk - 1

    @classmethod
    def examples(cls) -> Iterable[Example]:
        yield Example(cls(4, (3,)), (3,), tight=False)

    def init_state(self, slots: int, like: Tensor) -> Waiting:
        return Waiting(like.new_zeros(slots, self.chunk - 1, *self.frame), torch.zeros(slots, dtype=torch.long, device=like.device))

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return x, lengths

    def step(self, x: Tensor, lengths: Tensor, state: Waiting) -> tuple[Tensor, Tensor, Waiting]:
        both = torch.cat([state.frames, x], 1)
        have = state.count + lengths
        size = (self.chunk - 1 + x.shape[1]) // self.chunk * self.chunk
        ready = have // self.chunk * self.chunk
        if x.device.type == "cpu" and len(ready):  # where a look is free, what follows need not work on empty chunks
            size = int(ready.max())
        first = self.chunk - 1 - state.count  # waiting frames stand at the right end of their window
        index = (first[:, None] + torch.arange(size, device=x.device)).clamp(max=both.shape[1] - 1)
        y = both.gather(1, index.reshape(*index.shape, *[1] * (x.dim() - 2)).expand(-1, -1, *x.shape[2:]))
        return y, ready, Waiting(last_frames(state.frames, x, lengths), have - ready)

    def flush(self, state: Waiting) -> tuple[Tensor, Tensor]:
        size = self.chunk - 1
        if state.count.device.type == "cpu":  # as above
            size = int(state.count.max()) if len(state.count) else 0
        return self._rest(state, size), state.count

    def _rest(self, state: Waiting, size: int) -> Tensor:
        """The first ``size`` frames that wait: (S, size, …)."""
        index = (self.chunk - 1 - state.count[:, None] + torch.arange(size, device=state.count.device)).clamp(max=max(self.chunk - 2, 0))
        index = index.reshape(*index.shape, *[1] * len(self.frame)).expand(-1, -1, *self.frame)
        return state.frames.gather(1, index)


@dataclass
class Waiting(State):
    """Frames that wait for their chunk to fill, at the right end of ``frames``."""

    frames: Tensor  # (slots, chunk - 1, …)
    count: Tensor  # (slots,)


class Series(StreamingModule):
    """Parts one after another. Strides multiply; contexts and delays add up in input frames."""

    def __init__(self, *parts: StreamingModule):
        super().__init__()
        self.parts_in_order = nn.ModuleList(parts)
        stride = unit = 1
        granted = rounded = 1  # what a Rechunk guarantees, and how much of it the parts behind use
        for part in parts:
            if isinstance(part, Rechunk):
                granted = part.chunk * stride
            needs = part.unit * stride
            if granted % needs:
                if granted > 1:
                    raise ValueError(f"chunks of {granted} input frames are no whole number of units of {needs}")
                unit = math.lcm(unit, needs)
            rounded = max(rounded, needs)
            stride *= part.stride
        group = math.lcm(unit, stride)
        left = left_of(parts)
        self.stride, self.unit = stride, unit
        self.lookahead = lookahead_of(parts) + max(granted - group, 0)
        self.left = None if left is None else left + max(rounded - group, 0)

    def _series(self) -> Sequence[StreamingModule]:
        return list(self.parts_in_order)  # type: ignore[arg-type]

    def init_state(self, slots: int, like: Tensor) -> States:
        return States([part.init_state(slots, like) for part in self._series()])

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Output, Tensor]:
        for part in self._series():
            x, lengths = part(x, lengths)
        return x, lengths

    def step(self, x: Tensor, lengths: Tensor, state: States) -> tuple[Output, Tensor, States]:
        return self._run(x, lengths, state, 0)

    def _run(self, x: Tensor, lengths: Tensor, state: States, start: int) -> tuple[Output, Tensor, States]:
        after = list(state.parts)
        for i, part in enumerate(self._series()[start:], start):
            x, lengths, after[i] = part.step(x, lengths, after[i])
        return x, lengths, States(after)

    def flush(self, state: States) -> tuple[Output, Tensor] | None:
        """Flush each part in turn, and send its tail through the parts behind it."""
        tails = []
        for i, part in enumerate(self._series()):
            tail = part.flush(state.parts[i])
            if tail is not None:
                y, lengths, state = self._run(*tail, state, i + 1)
                tails.append((y, lengths))
        return concatenate(tails) if tails else None


def left_of(parts: Sequence[StreamingModule]) -> int | None:
    """Left context of parts in series, in input frames: each part's reach begins at the beginning of one of its units."""
    left = 0
    for part in reversed(parts):
        if part.left is None:
            return None
        left = -(-left * part.stride // part.unit) * part.unit + part.left
    return left


def lookahead_of(parts: Sequence[StreamingModule]) -> int:
    """Lookahead of parts in series, in input frames; a Rechunk's own waiting is not counted."""
    ahead = 0
    for part in reversed(parts):
        if not isinstance(part, Rechunk):
            ahead = -(-ahead * part.stride // part.unit) * part.unit + part.lookahead
    return ahead


def concatenate(pieces: Sequence[tuple[Output, Tensor]]) -> tuple[Output, Tensor]:
    """Join pieces ``(y (S, C, …), lengths (S,))`` of the same slots in time, each slot's frames close together."""
    if len(pieces) == 1:
        return pieces[0]
    ys, lengths = [y for y, _ in pieces], torch.stack([n for _, n in pieces])
    keep = torch.cat([within(n, _first(y).shape[1]) for y, n in pieces], 1)
    order = torch.argsort(~keep, dim=1, stable=True)

    def join(tensors: Sequence[Tensor]) -> Tensor:
        both = torch.cat(list(tensors), 1)
        return both.gather(1, order.reshape(*order.shape, *[1] * (both.dim() - 2)).expand_as(both))

    joined = type(ys[0])(*[join(field) for field in zip(*ys, strict=True)]) if isinstance(ys[0], tuple) else join(ys)
    return joined, lengths.sum(0)


def _first(y: Output) -> Tensor:
    return y[0] if isinstance(y, tuple) else y


__all__ = [
    "Causal",
    "Example",
    "Output",
    "PerFrame",
    "Rechunk",
    "Series",
    "StreamingModule",
    "Waiting",
    "concatenate",
    "left_of",
    "lookahead_of",
]
