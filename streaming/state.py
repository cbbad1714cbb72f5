"""Explicit streaming state: tensors whose first axis is the slot, nested as the modules are nested.

A *slot* is one live stream. Generic code gathers, scatters, resets, serialises and counts states without
knowing which model they belong to. No state lives on a module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

S = TypeVar("S", bound="State")


class StateError(ValueError):
    """Saved bytes that do not belong to the state they are loaded into."""


@dataclass
class State:
    """Base of all states: subclasses are dataclasses of tensors ``(slots, …)``, States and lists of States."""

    def map(self: S, function: Callable[..., Tensor], *others: State) -> S:
        """Apply ``function`` to every tensor (and the tensors at the same place in ``others``)."""
        return type(self)(**{name: _map(getattr(self, name), function, [getattr(o, name) for o in others]) for name in _names(self)})

    def named_tensors(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """Yield ``(dotted name, tensor)`` in field order."""
        for name in _names(self):
            yield from _walk(getattr(self, name), prefix + name)

    @property
    def slots(self) -> int:
        """Number of streams held; 0 for a state without tensors."""
        return next((t.shape[0] for _, t in self.named_tensors()), 0)

    @property
    def bytes_per_stream(self) -> int:
        """Bytes of state that one stream costs."""
        return sum(t.element_size() * t[0].numel() for _, t in self.named_tensors() if t.shape[0])

    def gather(self: S, slots: Tensor) -> S:
        """State of the chosen slots, in the order of ``slots`` (n,)."""
        return self.map(lambda t: t[slots])

    def scatter(self: S, slots: Tensor, part: S) -> S:
        """A copy in which ``slots`` (n,) hold the streams of ``part`` (n slots)."""
        return self.map(lambda t, p: t.index_copy(0, slots, p), part)

    def reset(self: S, which: Tensor, initial: S) -> S:
        """A copy in which the slots marked in ``which`` (slots,) bool start again from ``initial`` (1 or ``slots`` slots)."""
        return self.map(lambda t, i: torch.where(which.reshape(-1, *[1] * (t.dim() - 1)), i, t), initial)

    def to(self: S, device: torch.device | str) -> S:
        """The same state on another device."""
        return self.map(lambda t: t.to(device))

    def to_bytes(self) -> bytes:
        """Serialise as safetensors: names, dtypes, shapes and values; no pickle."""
        return save({name: t.detach().cpu().contiguous() for name, t in self.named_tensors()})

    def from_bytes(self: S, data: bytes) -> S:
        """Load ``data`` into the shape of this state (any number of slots), on this state's device.

        Raises:
            StateError: not safetensors, or saved by a module of another shape.
        """
        try:
            saved = load(data)
        except SafetensorError as error:
            raise StateError(f"saved state is damaged: {error}") from None
        here = dict(self.named_tensors())
        if saved.keys() != here.keys():
            raise StateError(f"saved state belongs to another model: its parts differ in {sorted(saved.keys() ^ here.keys())[:3]}")
        slots = {t.shape[0] for t in saved.values()}
        if len(slots) > 1:
            raise StateError("saved state is damaged: its parts hold different numbers of streams")
        for name, t in here.items():
            if saved[name].shape[1:] != t.shape[1:] or saved[name].dtype != t.dtype:
                have, want = (f"{x.dtype} {tuple(x.shape[1:])}" for x in (saved[name], t))
                raise StateError(f"saved state belongs to another model: {name} is {have}, expected {want}")
        tensors = iter(here.items())
        return self.map(lambda t: saved[next(tensors)[0]].to(t.device))


def _names(state: State) -> list[str]:
    return [field.name for field in fields(state)]


def _map(value: Any, function: Callable[..., Tensor], others: list[Any]) -> Any:
    if isinstance(value, State):
        return value.map(function, *others)
    if isinstance(value, list):
        return [_map(v, function, [o[i] for o in others]) for i, v in enumerate(value)]
    return function(value, *others)


def _walk(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, State):
        yield from value.named_tensors(name + ".")
    elif isinstance(value, list):
        for i, v in enumerate(value):
            yield from _walk(v, f"{name}.{i}")
    else:
        yield name, value


@dataclass
class Frames(State):
    """The last L frames of each slot: the one primitive behind convolution, K/V caches and overlapped features."""

    frames: Tensor  # (slots, L, …)


@dataclass
class States(State):
    """The states of parts in series."""

    parts: list[Any]  # of States, each of its part's own kind


@dataclass
class Nothing(State):
    """State of a part that keeps none."""


def last_frames(window: Tensor, x: Tensor, lengths: Tensor) -> Tensor:
    """Slide ``window`` (S, L, …) over ``x`` (S, C, …) by ``lengths`` (S,): the last L frames seen by each slot.

    A slot of length 0 keeps its window bit for bit; frames of ``x`` beyond a slot's length are not read.
    """
    both = torch.cat([window, x], dim=1)
    index = lengths[:, None] + torch.arange(window.shape[1], device=x.device)
    return both.gather(1, index.reshape(*index.shape, *[1] * (x.dim() - 2)).expand(-1, -1, *x.shape[2:]))


def within(lengths: Tensor, size: int) -> Tensor:
    """Mask (S, size): True where a frame index lies within its slot's length."""
    return torch.arange(size, device=lengths.device)[None] < lengths[:, None]


def zero_padding(x: Tensor, lengths: Tensor) -> Tensor:
    """``x`` (S, C, …) with everything beyond each slot's length set to zero, whatever was there (NaN included)."""
    keep = within(lengths, x.shape[1]).reshape(*x.shape[:2], *[1] * (x.dim() - 2))
    return torch.where(keep, x, x.new_zeros(()))
