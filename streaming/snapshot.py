"""A stream as bytes: what `Stream` or the scheduler saved, either can go on with."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save

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
    return next(pack_all([position], [reader], parts))


def pack_all(positions: Sequence[Position], readers: Sequence[Reader], parts: Mapping[str, State]) -> Iterator[bytes]:
    """Serialise streams, the i-th of which is in slot i of each state; a state leaves its device in one piece.

    The bytes are put together here and not by safetensors' own function, which would copy each tensor of each stream by itself.
    """
    tensors = [(f"{part}.{name}", t.detach()) for part, state in parts.items() for name, t in state.named_tensors()]
    sizes = [t.element_size() * t[0].numel() for _, t in tensors]
    head = list(_entries((name, _DTYPES[t.dtype], [1, *t.shape[1:]], size) for (name, t), size in zip(tensors, sizes, strict=True)))
    states = [state for state in map(_rows, parts.values()) if state is not None]
    for i, (position, reader) in enumerate(zip(positions, readers, strict=True)):
        about = json.dumps({"heard": position.heard, "reader": reader.save()}).encode()
        front = position.front or b"\0"
        extra = [
            ("pending", "F32", [len(position.pending)], position.pending.nbytes),
            ("reader", "U8", [len(about)], len(about)),
            ("front", "U8", [len(front)], len(front)),
        ]
        header = json.dumps(dict([*head, *_entries(extra, sum(sizes))])).encode()
        header += b" " * (-len(header) % 8)  # tensors begin at a multiple of 8
        state = [rows[i].data for rows in states]  # large: copied once, into the whole
        yield b"".join([struct.pack("<Q", len(header)), header, *state, position.pending.tobytes(), about, front])


def _rows(state: State) -> NDArray[np.uint8] | None:
    """(slots, bytes) of all tensors of a state, on the host; None if it has none."""
    flat = [t.detach().reshape(len(t), -1) for _, t in state.named_tensors()]
    # a dimension of size 1 counts as contiguous whatever its stride, and bytes want a stride of 1
    rows = [(t if t.stride(1) == 1 else t.clone(memory_format=torch.contiguous_format)).view(torch.uint8) for t in flat]
    if not rows:
        return None
    whole = torch.cat(rows, 1)
    host = torch.empty(
        whole.shape, dtype=torch.uint8, pin_memory=whole.is_cuda
    )  # an accelerator copies to pinned memory several times as fast
    return host.copy_(whole).numpy()


def _entries(tensors: Iterable[tuple[str, str, list[int], int]], start: int = 0) -> Iterator[tuple[str, dict[str, Any]]]:
    """Entries of a safetensors header, for tensors that lie one behind the other."""
    for name, dtype, shape, size in tensors:
        yield name, {"dtype": dtype, "shape": shape, "data_offsets": [start, start + size]}
        start += size


def unpack(data: bytes, reader: Reader, front: Front | None, parts: Mapping[str, State]) -> tuple[Position, Front | None, dict[str, State]]:
    """Restore ``reader``, and give the position, the front and the states, of the shapes of ``parts``, of a saved stream.

    Raises:
        StateError: the bytes are damaged or belong to another model.
    """
    try:
        tensors = load(data)
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
