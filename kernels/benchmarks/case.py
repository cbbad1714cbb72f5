"""A benchmark case, and how it is judged: correct first, then timed."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor

#: Inputs rotate so that a run finds none of its own in the cache: larger than an H200's L2 twice over.
ROTATION_BYTES = 128 * 2**20

#: A median is over so many runs, and as many as fit into so many seconds.
FEWEST, MOST, SPENT_S = 5, 50, 0.15

#: The GPU waits for the host to launch a whole run, unless that takes longer than this: a run is then limited by the host anywhere.
MOST_WAITING_S = 5e-3

#: Clock of the GPU at its fastest: at a slower one it waits longer.
CYCLES_A_SECOND = 2e9


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
        floor_flops: arguments -> operations of half-precision matrix products that any implementation must do.
        peers: other implementations of the same, by name; the table compares with the fastest.
        tolerance: largest ‖ours − reference‖ / ‖reference‖ of any output.
        widen: whether the reference gets float64; not for decisions, which must be the same for the same rounding.
        deterministic: whether a repeat must be equal bit for bit.
        comparable: whether peers give what we do; not where they fill what lies beyond a length with something.
    """

    family: str
    name: str
    shape: str
    inputs: Callable[[int], tuple[Any, ...]]
    reference: Callable[..., Any]
    ours: Callable[..., Any]
    floor_bytes: Callable[..., int]
    peers: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    floor_flops: Callable[..., float] | None = None
    tolerance: float = 1e-3
    widen: bool = True
    deterministic: bool = True
    comparable: bool = True


@dataclass(frozen=True)
class Tuning:
    """Launch sizes to choose for one class of shapes.

    Attributes:
        name: of the kernel.
        case: what is timed.
        table: of the family's launch sizes, which is changed while it is measured.
        key: of the class in ``table``.
        candidates: values to try.
    """

    name: str
    case: Case
    table: dict[Any, Any]
    key: Any
    candidates: tuple[Any, ...]


@dataclass(frozen=True)
class Peer:
    """Another implementation as measured: milliseconds, MiB above the inputs, its own error; or why it did not run."""

    ms: float | None = None
    mib: float | None = None
    error: float | None = None
    failure: str = ""


@dataclass(frozen=True)
class Row:
    """A measured case. Times in milliseconds, memory in MiB above the inputs; None where not measured, and ``failure`` says why."""

    family: str
    name: str
    shape: str
    error: float | None = None
    tolerance: float = 0.0
    ours_ms: float | None = None
    ours_mib: float | None = None
    reference_ms: float | None = None
    floor_ms: float | None = None
    floor_kind: str = ""
    peers: dict[str, Peer] = field(default_factory=dict)
    failure: str = ""

    @property
    def peer_name(self) -> str:
        """The fastest peer; the first if none ran."""
        ran = {name: peer.ms for name, peer in self.peers.items() if peer.ms is not None}
        return min(ran, key=lambda name: ran[name]) if ran else next(iter(self.peers), "")

    @property
    def peer(self) -> Peer:
        """What the fastest peer measured."""
        return self.peers.get(self.peer_name, Peer())

    @property
    def to_peer(self) -> float | None:
        """How many times faster than the fastest peer."""
        return self.peer.ms / self.ours_ms if self.peer.ms and self.ours_ms else None

    @property
    def to_floor(self) -> float | None:
        """How many times slower than the floor."""
        return self.ours_ms / self.floor_ms if self.ours_ms and self.floor_ms else None


def definition(case: Case) -> tuple[list[Tensor], float]:
    """What the reference gives, and the milliseconds that one run of it took."""
    arguments = case.inputs(0)
    wide = tuple(_wide(x) for x in arguments) if case.widen else arguments
    case.reference(*wide)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    expected = list(_tensors(case.reference(*wide)))
    end.record()
    torch.cuda.synchronize()
    return expected, start.elapsed_time(end)


def check(case: Case, expected: list[Tensor]) -> float:
    """Error of ``case`` against what its reference gives.

    Raises:
        RuntimeError: a repeat gives other bits, where it must not.
    """
    arguments = case.inputs(0)
    first = [x.clone() for x in _tensors(case.ours(*arguments))]
    error = _error(first, expected)
    if case.deterministic and not all(torch.equal(x, y) for x, y in zip(first, _tensors(case.ours(*arguments)), strict=True)):
        raise RuntimeError("a repeat gave other bits")
    return error


def measure(case: Case, speed: Speed, checked: tuple[float, float]) -> Row:
    """Time ``case`` if its error, against the reference, allows it; and its peers."""
    error, reference_ms = checked
    arguments = case.inputs(0)
    floors = {"bytes": case.floor_bytes(*arguments) / speed.bandwidth * 1e3}
    if case.floor_flops is not None:
        floors["flops"] = case.floor_flops(*arguments) / speed.flops * 1e3
    kind = max(floors, key=lambda name: floors[name])
    about = {"error": error, "tolerance": case.tolerance, "reference_ms": reference_ms, "floor_ms": floors[kind], "floor_kind": kind}
    if not error <= case.tolerance:
        return Row(case.family, case.name, case.shape, **about, failure="wrong")  # type: ignore[arg-type]
    rotation = rotate(case)
    ours_ms, ours_mib = timed(case.ours, rotation)
    expected = case.ours(*arguments) if case.comparable else ()
    peers = {name: _peer(case, peer, rotation, expected) for name, peer in case.peers.items()}
    return Row(case.family, case.name, case.shape, **about, ours_ms=ours_ms, ours_mib=ours_mib, peers=peers)  # type: ignore[arg-type]


def rotate(case: Case) -> list[tuple[Any, ...]]:
    """Sets of arguments, larger together than the cache."""
    size = sum(x.nbytes for x in case.inputs(0) if isinstance(x, Tensor))
    return [case.inputs(seed) for seed in range(max(1, min(ROTATION_BYTES // max(size, 1) + 1, 16)))]


@dataclass(frozen=True)
class Speed:
    """What the machine does at its best: bytes a second of a large copy, operations a second of a large bfloat16 product."""

    bandwidth: float
    flops: float


def machine_speed() -> Speed:
    """Measure it."""
    source = torch.empty(2**30, dtype=torch.uint8, device="cuda").random_()
    copy, _ = timed(torch.clone, [(source,)])
    square = torch.randn(8192, 8192, device="cuda").bfloat16()
    product, _ = timed(torch.matmul, [(square, square)])
    return Speed(2 * source.nbytes / (copy * 1e-3), 2 * 8192**3 / (product * 1e-3))


def timed(function: Callable[..., Any], rotation: list[tuple[Any, ...]]) -> tuple[float, float]:
    """Median milliseconds of a call on the GPU, and the MiB it allocates at its peak.

    The GPU is held back until the host has launched a run, as it is where a model keeps it busy: else short cases would measure the
    host and whatever else runs there. What waits for the GPU itself, or launches more than fits its queue, is measured with its waits.
    """
    for arguments in rotation:  # a graph is recorded for each
        function(*arguments)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    function(*rotation[0])
    torch.cuda.synchronize()
    memory = (torch.cuda.max_memory_allocated() - before) / 2**20
    turn = itertools.cycle(rotation)
    began = time.perf_counter()
    function(*next(turn))
    launching = min(time.perf_counter() - began, MOST_WAITING_S)
    torch.cuda.synchronize()
    hold = int(2 * launching * CYCLES_A_SECOND)
    other = torch.empty(2 * ROTATION_BYTES, dtype=torch.uint8, device="cuda")  # takes all of the cache
    times: list[float] = []
    until = time.perf_counter() + SPENT_S
    while len(times) < FEWEST or (len(times) < MOST and time.perf_counter() < until):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        other.zero_()
        torch.cuda._sleep(hold)
        start.record()
        function(*next(turn))
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times), memory


class Replayed:
    """A function recorded in a CUDA graph for each set of arguments at its first call: a server's way, and without launches."""

    def __init__(self, function: Callable[..., Any]):
        self._function = function
        self._graphs: dict[int, tuple[torch.cuda.CUDAGraph, Any, tuple[Any, ...]]] = {}

    def __call__(self, *arguments: Any) -> Any:
        key = arguments[0].data_ptr()  # kept alive below, so that no other tensor has it
        if key not in self._graphs:
            self._function(*arguments)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                out = self._function(*arguments)
            self._graphs[key] = graph, out, arguments
        graph, out, _ = self._graphs[key]
        graph.replay()
        return out

    def forget(self) -> None:
        """Free all graphs and arguments."""
        self._graphs.clear()
        forget(self._function)


def forget(*functions: Any) -> None:
    """Free what functions keep for the arguments that they have seen."""
    for function in functions:
        if hasattr(function, "forget"):
            function.forget()
    torch.cuda.empty_cache()


def reason(error: BaseException) -> str:
    """An error in one short line."""
    text = str(error).strip() or repr(error)
    return f"{type(error).__name__}: {text.splitlines()[0]}"[:160]


def _peer(case: Case, peer: Callable[..., Any], rotation: list[tuple[Any, ...]], ours: Any) -> Peer:
    try:
        found = peer(*case.inputs(0))  # not of the rotation: a step has changed states there
        error = _error(found, ours, leading=True) if len(ours) else None
        del found
        return Peer(*timed(peer, rotation), error)
    except Exception as failed:  # whatever another's code raises costs its own column alone
        return Peer(failure=reason(failed))


def _error(ours: Any, reference: Any, leading: bool = False) -> float:
    """Largest relative error of any output tensor; infinite if one has another shape or NaN.

    ``leading``: only as many outputs as both have and whose shapes agree, for peers that give others.
    """
    worst = 0.0
    for x, y in zip(_tensors(ours), _tensors(reference), strict=not leading):
        if x.shape != y.shape:
            if leading:
                continue
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
    return value.detach(), *torch.autograd.grad(value, leaves, upstream(value.shape, value.dtype))


@cache
def upstream(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """The gradient that ``with_gradients`` hands down to a value of this shape and dtype; made once, so that no run is timed with it."""
    return torch.arange(shape.numel(), device="cuda").view(shape).cos().to(dtype)
