"""A benchmark case, and how it is judged: correct first, then timed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

#: Inputs rotate so that a run finds none of its own in the cache: larger than an H200's L2 twice over.
ROTATION_BYTES = 128 * 2**20


@dataclass(frozen=True)
class Case:
    """One kernel at one shape.

    Attributes:
        family: folder under ``kernels/``.
        name: what is computed.
        shape: for the table.
        inputs: seed -> arguments on the GPU.
        reference: the definition.
        ours: what is measured.
        floor_bytes: arguments -> bytes that any implementation must move.
        peer: another implementation of the same, or None; not measured where it cannot be imported.
        peer_name: for the table.
        tolerance: largest ‖ours − reference‖ / ‖reference‖ of any output.
        widen: whether the reference gets float64; not for decisions, which must be the same for the same rounding.
    """

    family: str
    name: str
    shape: str
    inputs: Callable[[int], tuple[Any, ...]]
    reference: Callable[..., Any]
    ours: Callable[..., Any]
    floor_bytes: Callable[..., int]
    peer: Callable[..., Any] | None = None
    peer_name: str = ""
    tolerance: float = 1e-3
    widen: bool = True


@dataclass(frozen=True)
class Row:
    """A measured case. Times in milliseconds, memory in MiB above the inputs; None where not measured."""

    family: str
    name: str
    shape: str
    peer_name: str
    error: float
    ours_ms: float | None
    peer_ms: float | None
    floor_ms: float
    ours_mib: float | None
    peer_mib: float | None

    @property
    def to_peer(self) -> float | None:
        """How many times faster than the peer."""
        return self.peer_ms / self.ours_ms if self.peer_ms and self.ours_ms else None

    @property
    def to_floor(self) -> float | None:
        """How many times slower than the floor."""
        return self.ours_ms / self.floor_ms if self.ours_ms else None


def measure(case: Case, bandwidth: float) -> Row:
    """Check ``case`` against its reference, and time it if it is right. ``bandwidth`` in bytes a second."""
    arguments = case.inputs(0)
    error = _error(case.ours(*arguments), case.reference(*(_wide(x) for x in arguments) if case.widen else arguments))
    torch.cuda.empty_cache()
    floor = case.floor_bytes(*arguments) / bandwidth * 1e3
    right = error <= case.tolerance
    size = sum(x.nbytes for x in arguments if isinstance(x, Tensor))
    rotation = [arguments, *(case.inputs(seed) for seed in range(1, min(ROTATION_BYTES // max(size, 1) + 1, 16)))]
    ours, ours_mib = _timed(case.ours, rotation) if right else (None, None)
    try:
        peer, peer_mib = _timed(case.peer, rotation) if right and case.peer else (None, None)
    except ImportError:
        peer, peer_mib = None, None
    return Row(case.family, case.name, case.shape, case.peer_name, error, ours, peer, floor, ours_mib, peer_mib)


def copy_bandwidth() -> float:
    """Bytes a second that a large copy on the GPU reads and writes."""
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda").random_()
    time, _ = _timed(torch.clone, [(source,)])
    return 2 * source.nbytes / (time * 1e-3)


def _timed(function: Callable[..., Any], rotation: list[tuple[Any, ...]]) -> tuple[float, float]:
    """Median milliseconds of a call, and the MiB it allocates at its peak."""
    from triton.testing import do_bench

    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    function(*rotation[0])
    torch.cuda.synchronize()
    memory = (torch.cuda.max_memory_allocated() - before) / 2**20
    turn = itertools.cycle(rotation)
    return do_bench(lambda: function(*next(turn)), return_mode="median"), memory


def _error(ours: Any, reference: Any) -> float:
    """Largest relative error of any output tensor; infinite if one has another shape or NaN."""
    worst = 0.0
    for x, y in zip(_tensors(ours), _tensors(reference), strict=True):
        if x.shape != y.shape:
            return float("inf")
        x, y = x.double(), y.double()
        error = float((x - y).norm() / y.norm().clamp(min=1e-30))
        worst = max(worst, error if error == error else float("inf"))
    return worst


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    else:
        for part in value:
            yield from _tensors(part)


def _wide(x: Any) -> Any:
    return x.double() if isinstance(x, Tensor) and x.is_floating_point() else x


def with_gradients(loss: Callable[..., Tensor], *differentiable: Tensor) -> tuple[Tensor, ...]:
    """The value of ``loss`` at ``differentiable``, and its gradients for an upstream gradient that is not constant.

    Under a constant one the gradient of attention weights, whose sum is fixed, would be all rounding.
    """
    leaves = [x.detach().requires_grad_() for x in differentiable]
    value = loss(*leaves)
    return value.detach(), *torch.autograd.grad(value, leaves, upstream(value.shape).to(value.dtype))


@cache
def upstream(shape: torch.Size) -> Tensor:
    """The gradient that ``with_gradients`` hands down to a value of this shape, float32."""
    return torch.arange(shape.numel(), device="cuda").view(shape).cos()
