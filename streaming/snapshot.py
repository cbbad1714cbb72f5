"""A stream as bytes: what `Stream` or the scheduler saved, either can go on with."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from .recognizer import Front, Reader
from .state import State, StateError

#: Names of dtypes in the header of safetensors.
_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class Position:
    """Where a stream stands, apart from its network's state.

    Attributes:
        pending: audio that waits, at the recogniser's rate.
        heard: samples that the network has taken in.
        front: the resampler's bytes, empty without one.
    """

    pending: NDArray[np.float32]
    heard: int
    front: bytes


def pack(position: Position, reader: Reader, parts: Mapping[str, State]) -> bytes:
    """Serialise a stream as safetensors; the states in ``parts``, by name, hold its slot alone."""
    rows = [row.cpu() for row in map(rows_of, parts.values()) if row is not None]
    return bytes(Packing(Layout(parts), [position], [reader], rows).pack()[0])


class Layout:
    """Where the tensors of states lie in a saved stream.

    Args:
        parts: states by name, of any number of slots.
    """

    def __init__(self, parts: Mapping[str, State]):
        tensors = [(f"{part}.{name}", t) for part, state in parts.items() for name, t in state.named_tensors()]
        sizes = [t.element_size() * math.prod(t.shape[1:]) for _, t in tensors]
        entries = _entries((name, _DTYPES[t.dtype], [1, *t.shape[1:]], size) for (name, t), size in zip(tensors, sizes, strict=True))
        self._head, self._size = json.dumps(dict(entries))[1:-1], sum(sizes)

    def header(self, *lengths: int) -> bytes:
        """The header of a safetensors file in which bytes of these lengths stand behind the states: pending audio, reader and front."""
        pending, about, front = lengths
        extra = [("pending", "F32", [pending // 4], pending), ("reader", "U8", [about], about), ("front", "U8", [front], front)]
        header = f"{{{self._head}{', ' * bool(self._head)}{json.dumps(dict(_entries(extra, self._size)))[1:-1]}}}".encode()
        header += b" " * (-len(header) % 8)  # tensors begin at a multiple of 8
        return struct.pack("<Q", len(header)) + header


class Packing:
    """Streams that are about to be bytes: what changes with their next step is copied when this is made, the rest is `pack`'s.

    Args:
        layout: of the states.
        positions: of the streams.
        readers: theirs.
        rows: (streams, bytes) of each state, as `rows_of` gives them, on the host.
        wait: returns when ``rows`` have arrived there.
    """

    def __init__(
        self,
        layout: Layout,
        positions: Sequence[Position],
        readers: Sequence[Reader],
        rows: Sequence[Tensor],
        wait: Callable[[], object] | None = None,
    ):
        self._layout, self._positions, self._wait = layout, positions, wait
        self._rows = [state.numpy() for state in rows]
        self._about = [
            json.dumps({"heard": position.heard, "reader": reader.save()}).encode()
            for position, reader in zip(positions, readers, strict=True)
        ]

    def pack(self) -> list[memoryview]:
        """Each stream as safetensors. It may run on any thread, and lets others run meanwhile: arrays are copied without Python's lock.

        The bytes are put together here and not by safetensors' own function, which would copy each tensor of each stream by itself.
        """
        if self._wait:
            self._wait()
        packed = []
        for i, (position, about) in enumerate(zip(self._positions, self._about, strict=True)):
            front = position.front or b"\0"
            header = self._layout.header(position.pending.nbytes, len(about), len(front))
            small = (position.pending.view(np.uint8), np.frombuffer(about, np.uint8), np.frombuffer(front, np.uint8))
            pieces = [np.frombuffer(header, np.uint8), *(rows[i] for rows in self._rows), *small]
            whole, at = np.empty(sum(map(len, pieces)), np.uint8), 0
            for piece in pieces:
                whole[at : at + len(piece)] = piece
                at += len(piece)
            packed.append(whole.data)
        return packed


def rows_of(state: State, slots: Tensor | None = None) -> Tensor | None:
    """(slots, bytes) of all tensors of a state, or of the chosen slots; None if it has none."""
    rows = []
    for _, t in state.named_tensors():
        if chosen := math.prod(t.shape[1:]):
            flat = t.detach() if slots is None else t.detach().index_select(0, slots)
            flat = flat.reshape(-1, chosen)
            # a dimension of size 1 counts as contiguous whatever its stride, and bytes want a stride of 1
            rows.append((flat if flat.stride(1) == 1 else flat.clone(memory_format=torch.contiguous_format)).view(torch.uint8))
    return torch.cat(rows, 1) if rows else None


def _entries(tensors: Iterable[tuple[str, str, list[int], int]], start: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    """Entries of a safetensors header, for tensors that lie one behind the other."""
    for name, dtype, shape, size in tensors:
        yield name, {"dtype": dtype, "shape": shape, "data_offsets": [start, start + size]}
        start += size


def unpack(
    data: bytes | memoryview, reader: Reader, front: Front | None, parts: Mapping[str, State]
) -> tuple[Position, Front | None, dict[str, State]]:
    """Restore ``reader``, and give the position, the front and the states, of the shapes of ``parts``, of a saved stream.

    Raises:
        StateError: the bytes are damaged or belong to another model.
    """
    try:
        tensors = load(bytes(data))
        about: dict[str, Any] = json.loads(bytes(tensors.pop("reader").tolist()))
        pending, saved = tensors.pop("pending"), bytes(tensors.pop("front").tolist())
        reader.restore(about["reader"])
        front = type(front).from_bytes(saved) if front else None
        position = Position(pending.numpy(), int(about["heard"]), saved if front else b"")
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise StateError(f"the saved stream is damaged: {error}") from None
    if unknown := {name.partition(".")[0] for name in tensors} - parts.keys():
        raise StateError(f"the saved stream has {', '.join(sorted(unknown))}, which this one has not")
    states: dict[str, State] = {}
    for part, like in parts.items():
        held = {name.removeprefix(f"{part}."): t for name, t in tensors.items() if name.startswith(f"{part}.")}
        states[part] = like.from_bytes(save(held))
    return position, front, states
