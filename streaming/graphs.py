"""Steps over the slots of a pool of states, recorded in CUDA graphs where the pool lies on a GPU.

A step of a streaming encoder is a thousand small kernels: on a GPU the host takes longer to launch them than the GPU to run them, and
a graph launches all of them at once. It holds addresses, so everything it touches must stay where it is: the pool, and buffers of fixed
shape for what comes in and goes out. States stay explicit all the same: a step takes a state and hands one back, and this module
decides whether that is a copy of the pool's slots or, for parts that can, the slots themselves (`Lent`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from .state import State

#: Batch sizes that a graph is recorded for, unless the caller knows better.
BUCKETS = tuple(1 << i for i in range(13))


@dataclass
class SlotState(State):
    """A state whose part can step over chosen slots of a pool where they lie: its ``step`` takes a `Lent` one as well."""


@dataclass
class Lent(State):
    """Slots of a pool, lent to a step that changes them in place and hands the same object back.

    Attributes:
        pool: the state of all slots.
        rows: (S,) the slot of each row of the step; no two rows with frames share one.
    """

    pool: Any  # a SlotState
    rows: Tensor


def lend(pool: Any, rows: Tensor) -> Any:
    """The slots ``rows`` (S,) of a pool: lent where a part steps in place, copied elsewhere."""
    if isinstance(pool, SlotState):
        return Lent(pool, rows)
    if isinstance(pool, State):
        return type(pool)(**{field.name: lend(getattr(pool, field.name), rows) for field in fields(pool)})
    if isinstance(pool, list):
        return [lend(part, rows) for part in pool]
    return pool[rows]


def owned(state: Any) -> Any:
    """What `lend` gave, as copies of its own, for parts of a step that know nothing of lending."""
    if isinstance(state, Lent):
        return state.pool.gather(state.rows)
    if isinstance(state, State):
        return type(state)(**{field.name: owned(getattr(state, field.name)) for field in fields(state)})
    if isinstance(state, list):
        return [owned(part) for part in state]
    return state


def give_back(pool: Any, rows: Tensor, part: Any) -> None:
    """Write what a step handed back into the slots ``rows`` (S,) of the pool, in place; what was lent is there already."""
    if isinstance(part, Lent):
        return
    if isinstance(pool, State):
        for field in fields(pool):
            give_back(getattr(pool, field.name), rows, getattr(part, field.name))
    elif isinstance(pool, list):
        for into, what in zip(pool, part, strict=True):
            give_back(into, rows, what)
    else:
        pool.index_copy_(0, rows, part)


@dataclass
class _Recording:
    """A graph with the buffers that it reads."""

    graph: Any  # torch.cuda.CUDAGraph
    audio: Tensor
    lengths: Tensor
    rows: Tensor
    output: Any


class GraphedStep:
    """Steps chosen slots of a pool of states, which changes in place; on a GPU, from CUDA graphs.

    On the CPU, and for shapes seen for the first time, the step runs eagerly over copies of the slots and is written back at its end, so
    that a step that fails changes nothing. A graph is recorded for each batch size of ``buckets`` and shape of ``audio`` when they come
    up again; smaller batches are filled up with rows of length 0 in slot ``filler``. Other states than the one recorded for, as after a
    pool has grown, drop all graphs. Not thread-safe: one thread steps.

    Args:
        step: ``(audio (S, C, …), lengths (S,), state)`` -> its outputs, and last the new state, as `Recognizer.step` and
            `StreamingModule.step` do; it must neither look at values nor make tensors on the host.
        example_state_fn: number of slots -> a state of streams that have heard nothing, to warm up with.
        buckets: batch sizes, increasing; larger batches run eagerly.
        filler: slot that no stream owns, as in `scheduler.Slots`.
        in_place: lend slots to eager steps too, which then must not fail.
        graphs: most graphs kept; further shapes run eagerly.
    """

    def __init__(
        self,
        step: Callable[[Tensor, Tensor, Any], tuple[Any, ...]],
        example_state_fn: Callable[[int], State],
        buckets: Sequence[int] = BUCKETS,
        *,
        filler: int = 0,
        in_place: bool = False,
        graphs: int = 64,
    ):
        self._step, self._example_state = step, example_state_fn
        self._buckets, self._filler, self._in_place, self._most = tuple(buckets), filler, in_place, graphs
        self._seen: set[tuple[Any, ...]] = set()
        self._recorded: dict[tuple[Any, ...], _Recording | None] = {}
        self._addresses: tuple[int, ...] = ()
        self._memory: Any = None

    @property
    def recorded(self) -> int:
        """Number of graphs."""
        return sum(recording is not None for recording in self._recorded.values())

    @torch.no_grad()
    def __call__(self, audio: Tensor, lengths: Tensor, state: State, slots: Tensor | Sequence[int]) -> Any:
        """Step the slots ``slots`` (S,) of the pool ``state``, in place.

        Args:
            audio: (S, C, …), on any device.
            lengths: (S,) frames of each row, at most C.
            state: the pool: any number of slots.
            slots: of each row, all different.

        Returns:
            What ``step`` returns before its state, for S rows and any fillers behind them. On a GPU it lies in buffers that the next call
            overwrites.
        """
        device = next((tensor.device for _, tensor in state.named_tensors()), audio.device)
        slots = torch.as_tensor(slots, dtype=torch.long)
        if device.type == "cuda" and (bucket := next((b for b in self._buckets if b >= len(slots)), None)):
            recording = self._recording(bucket, audio, state, device)
            if recording is not None:
                return self._replay(recording, audio, lengths, slots)
        rows = slots.to(device, non_blocking=True)
        return self._run(audio.to(device, non_blocking=True), lengths.to(device, non_blocking=True), state, rows, self._in_place)

    def stop_recording(self) -> None:
        """Run further shapes eagerly: to record one takes seconds, for which live streams would wait."""
        self._most = 0

    def _run(self, audio: Tensor, lengths: Tensor, state: State, rows: Tensor, in_place: bool) -> Any:
        *output, after = self._step(audio, lengths, lend(state, rows) if in_place else state.gather(rows))
        give_back(state, rows, after)
        return output[0] if len(output) == 1 else tuple(output)

    def _recording(self, bucket: int, audio: Tensor, state: State, device: torch.device) -> _Recording | None:
        addresses = tuple(tensor.data_ptr() for _, tensor in state.named_tensors())
        if addresses != self._addresses:
            self._recorded.clear()
            self._addresses = addresses
        key = (bucket, audio.shape[1:], audio.dtype)
        if key not in self._recorded and len(self._recorded) < self._most:
            if key not in self._seen:  # shapes that come once, like the end of a file, are not worth a graph
                self._seen.add(key)
                return None
            self._recorded[key] = self._record(bucket, audio, state, device)
        return self._recorded.get(key)

    def _record(self, bucket: int, audio: Tensor, state: State, device: torch.device) -> _Recording | None:
        held = torch.zeros(bucket, *audio.shape[1:], dtype=audio.dtype, device=device)
        lengths = torch.zeros(bucket, dtype=torch.long, device=device)
        rows = torch.full((bucket,), self._filler, device=device)
        try:
            self._warm_up(held, lengths, bucket, device)
            self._memory = self._memory or torch.cuda.graph_pool_handle()
            graph, output = _captured(lambda: self._run(held, lengths, state, rows, in_place=True), self._memory)
        except RuntimeError as error:  # a step that looks at values cannot be recorded, but still steps
            logging.getLogger(__name__).warning("steps of %d streams run without a CUDA graph: %s", bucket, str(error).splitlines()[0])
            return None
        return _Recording(graph, held, lengths, rows, output)

    def _warm_up(self, audio: Tensor, lengths: Tensor, bucket: int, device: torch.device) -> None:
        """Compile and plan all that a step needs, on streams of its own: recording allows none of that."""
        scratch = self._example_state(bucket)
        rows = torch.arange(bucket, device=device)
        for _ in range(2):
            _rehearse(lambda: self._run(audio, lengths, scratch, rows, in_place=True), device)

    def _replay(self, recording: _Recording, audio: Tensor, lengths: Tensor, slots: Tensor) -> Any:
        count = len(slots)
        recording.audio[:count].copy_(audio, non_blocking=True)
        recording.lengths[count:].zero_()
        recording.lengths[:count].copy_(lengths, non_blocking=True)
        recording.rows[count:].fill_(self._filler)
        recording.rows[:count].copy_(slots, non_blocking=True)
        recording.graph.replay()
        return recording.output


class GraphedRows:
    """Work on chosen slots of a pool that hears nothing, such as to begin them anew or to copy them; on a GPU, from CUDA graphs.

    A graph is recorded for each number of slots in ``buckets`` when it is first wanted, and the slots are filled up with ``filler``.
    The tensors that the work touches must stay where they are. Not thread-safe.

    Args:
        work: (S,) slots -> what it gives for each of them; as in `GraphedStep`, it must not look at values.
        device: where the pool lies.
        buckets: numbers of slots, increasing.
        filler: a slot that no stream owns, on which the work may be done any number of times.
    """

    def __init__(self, work: Callable[[Tensor], Any], device: torch.device, buckets: Sequence[int], filler: int = 0):
        self._work, self._device, self._buckets, self._filler = work, device, tuple(buckets), filler
        self._recorded: dict[int, tuple[Any, Tensor, Any]] = {}  # graph, slots and output
        self._memory: Any = None

    @torch.no_grad()
    def __call__(self, slots: Sequence[int]) -> Any:
        """Work on slots, no more than the last of the buckets has.

        Returns:
            What the work gives, for these slots and any fillers behind them. On a GPU it lies in buffers that the next call overwrites.
        """
        if self._device.type != "cuda":
            return self._work(torch.tensor(slots, device=self._device))
        bucket = next(b for b in self._buckets if b >= len(slots))
        if bucket not in self._recorded:
            self._recorded[bucket] = self._record(bucket)
        graph, rows, output = self._recorded[bucket]
        rows.copy_(torch.tensor([*slots, *[self._filler] * (bucket - len(slots))]).pin_memory(), non_blocking=True)
        graph.replay()
        return output

    def _record(self, bucket: int) -> tuple[Any, Tensor, Any]:
        rows = torch.full((bucket,), self._filler, device=self._device)
        _rehearse(lambda: self._work(rows), self._device)
        self._memory = self._memory or torch.cuda.graph_pool_handle()
        graph, output = _captured(lambda: self._work(rows), self._memory)
        return graph, rows, output


def _rehearse(work: Callable[[], Any], device: torch.device) -> None:
    """Do work on a CUDA stream of its own: what kernels need at their first launch may not be recorded."""
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        work()
    torch.cuda.current_stream(device).wait_stream(stream)


def _captured(work: Callable[[], Any], memory: Any) -> tuple[Any, Any]:
    """A CUDA graph of some work, in a pool of memory, and what the work gives: buffers that each replay overwrites."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=memory, capture_error_mode="thread_local"):
        output = work()
    return graph, output


__all__ = ["BUCKETS", "GraphedRows", "GraphedStep", "Lent", "SlotState", "give_back", "lend", "owned"]
