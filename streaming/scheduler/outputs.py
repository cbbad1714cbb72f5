"""What steps put out, on the host: readers look at single numbers, of which tensors are slow to give.

From an accelerator an output comes in one piece, and no one waits for it before it is read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Place:
    """Where a tensor lies among the bytes of an output, from ``at`` on."""

    at: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Flat:
    """An output in one piece.

    Attributes:
        data: (N,) bytes of all its tensors, one behind the other.
        form: the output, with a `Place` for each tensor.
    """

    data: Tensor
    form: Any


def flat(output: Any) -> Flat:
    """An output, its tensors nested in lists and tuples, in one piece; as part of a step it can be recorded."""
    data: list[Tensor] = []
    size = 0

    def place(t: Tensor) -> Place:
        nonlocal size
        t = t.float() if t.dtype == torch.bfloat16 else t
        here = Place(size, tuple(t.shape), np.dtype(str(t.dtype).removeprefix("torch.")))
        if t.numel():
            data.append(t.contiguous().reshape(-1).view(torch.uint8))
            size += len(data[-1])
        return here

    form = _mapped(output, Tensor, place)
    return Flat(torch.cat(data) if data else torch.zeros(0, dtype=torch.uint8), form)


def to_host(output: Any) -> Any:
    """Tensors of an output, nested in lists and tuples, as arrays."""
    return _mapped(output, Tensor, lambda t: (t.float() if t.dtype == torch.bfloat16 else t).numpy(force=True))


class Arriving:
    """An output on its way to the host."""

    def __init__(self, output: Any):
        self._form: Any = output.form if isinstance(output, Flat) else None
        self._sent = sent(output.data) if isinstance(output, Flat) else None
        self._output = None if self._sent else to_host(output)

    def get(self) -> Any:
        """The output with arrays in place of tensors; waits for it."""
        if self._sent:
            data, wait = self._sent
            if wait:
                wait()
            whole, self._sent = data.numpy(), None
            self._output = _mapped(self._form, Place, lambda place: _array(whole, place))
        return self._output


def sent(data: Tensor) -> tuple[Tensor, Callable[[], object] | None]:
    """A tensor on the host, and what returns once it is there; None if it is. Work on ``data`` that is asked for later comes after."""
    if not data.is_cuda:
        return data, None
    host = torch.empty(data.shape, dtype=data.dtype, pin_memory=True)  # an accelerator copies to pinned memory several times as fast
    host.copy_(data, non_blocking=True)
    arrived = torch.cuda.Event(blocking=True)  # who waits leaves its core to others
    arrived.record()
    return host, arrived.synchronize


def _array(data: NDArray[np.uint8], place: Place) -> NDArray[Any]:
    size = place.dtype.itemsize * int(np.prod(place.shape))
    return data[place.at : place.at + size].view(place.dtype).reshape(place.shape)


def _mapped(value: Any, kind: type, function: Callable[[Any], Any]) -> Any:
    """Apply ``function`` to what is of a kind, in nested lists and tuples."""
    if isinstance(value, kind):
        return function(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_mapped(v, kind, function) for v in value))
    if isinstance(value, list | tuple):
        return type(value)(_mapped(v, kind, function) for v in value)
    return value
