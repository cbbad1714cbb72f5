"""A stream as bytes: what `Stream` or the scheduler saved, either can go on with."""

from __future__ import annotations

import json
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


def pack(position: Position, reader: Reader, state: State) -> bytes:
    """Serialise a stream as safetensors; ``state`` holds its slot alone."""
    tensors = {f"state.{name}": t.detach().cpu().contiguous() for name, t in state.named_tensors()}
    tensors["pending"] = torch.from_numpy(position.pending.copy())
    tensors["reader"] = _bytes(json.dumps({"heard": position.heard, "reader": reader.save()}).encode())
    tensors["front"] = _bytes(position.front or b"\0")
    return save(tensors)


def unpack(data: bytes, reader: Reader, front: Front | None, like: State) -> tuple[Position, Front | None, State]:
    """Restore ``reader``, and give the position, the front and the state of shape ``like`` of a saved stream.

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
    return position, front, like.from_bytes(save({name.removeprefix("state."): t for name, t in tensors.items()}))


def _bytes(value: bytes) -> Tensor:
    return torch.frombuffer(bytearray(value), dtype=torch.uint8)
