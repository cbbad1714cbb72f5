"""The model's side of a tick: gather the slots, step once, scatter, read. Runs on the scheduler's one worker thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..events import Event
from ..recognizer import Reader, Recognizer
from ..snapshot import Position, pack
from ..state import State

Audio = NDArray[np.float32]


@dataclass
class Turn:
    """What one stream does in one tick.

    Attributes:
        slot: where its state lies.
        reader: turns outputs into events.
        audio: to step over, one piece after another; only the last may be less than whole chunks.
        initial: state to begin with, on a stream's first turn.
        ends: whether the stream is flushed behind the audio.
        keeps: whether the state stays as it was before: a flush without reset reads a copy.
        save: the position after the turn, if the stream is to be saved.
        events: what came of it.
        saved: the stream as bytes, if ``save``.
        error: what went wrong, in this stream alone.
    """

    slot: int
    reader: Reader
    audio: Sequence[Audio]
    initial: State | None = None
    ends: bool = False
    keeps: bool = False
    save: Position | None = None
    events: list[Event] = field(default_factory=list)
    saved: bytes | None = None
    error: Exception | None = None


class Slots:
    """The states of all streams of a recogniser.

    Args:
        recognizer: the model.
        buckets: batch sizes that steps are padded to, increasing; None: powers of two on an accelerator, any size elsewhere.
    """

    def __init__(self, recognizer: Recognizer, buckets: Sequence[int] | None = None):
        self._recognizer = recognizer
        self.initial = recognizer.init_state(1)
        self._states = self.initial.map(torch.clone)  # slot 0 only fills up buckets
        on_host = all(t.device.type == "cpu" for _, t in self.initial.named_tensors())
        self._buckets = buckets if buckets is not None else [] if on_host else [1 << i for i in range(13)]

    @torch.no_grad()
    def run(self, turns: Sequence[Turn]) -> None:
        """Take the turns; an error is left in the turn that caused it and touches no other."""
        self._grow(max(turn.slot for turn in turns) + 1)
        for turn in turns:
            if turn.initial is not None:
                self._put([turn.slot], turn.initial)
        _isolated(self._step, [turn for turn in turns if not turn.ends])
        _isolated(self._end, [turn for turn in turns if turn.ends])
        for turn in turns:
            if turn.save and turn.error is None:
                turn.saved = pack(turn.save, turn.reader, self._states.gather(self._index([turn.slot])))

    def _step(self, turns: Sequence[Turn]) -> None:
        slots = [turn.slot for turn in turns]
        slots += [0] * (next((b for b in self._buckets if b >= len(slots)), len(slots)) - len(slots))
        audio, lengths = _batch([turn.audio[0] for turn in turns], len(slots))
        output, state = self._recognizer.step(audio, lengths, self._states.gather(self._index(slots)))
        output = to_host(output)
        self._put(slots, state)
        for i, turn in enumerate(turns):
            _read(turn, turn.reader.read, output, i)

    def _end(self, turns: Sequence[Turn]) -> None:
        state = self._states.gather(self._index([turn.slot for turn in turns]))
        readers = [self._copy(turn.reader) if turn.keeps else turn.reader for turn in turns]
        outputs: list[tuple[Any, list[int]]] = []
        for i in range(max(len(turn.audio) for turn in turns)):
            pieces = [turn.audio[i] if i < len(turn.audio) else np.zeros(0, np.float32) for turn in turns]
            speaking = [row for row, piece in enumerate(pieces) if len(piece)]
            if speaking:
                output, state = self._recognizer.step(*_batch(pieces, len(pieces)), state)
                outputs.append((to_host(output), speaking))
        last = to_host(self._recognizer.flush(state))
        for output, speaking in outputs:
            for row in speaking:
                _read(turns[row], readers[row].read, output, row)
        for row, turn in enumerate(turns):
            _read(turn, readers[row].finish, last, row)

    def _copy(self, reader: Reader) -> Reader:
        copy = self._recognizer.reader()
        copy.restore(reader.save())
        return copy

    def _put(self, slots: Sequence[int], part: State) -> None:
        index = self._index(slots)
        self._states.map(lambda t, p: t.index_copy_(0, index, p), part)  # in place: a tick touches its own slots only

    def _grow(self, slots: int) -> None:
        if slots > (have := self._states.slots):
            more = self._recognizer.init_state(max(slots, 2 * have) - have)
            self._states = self._states.map(lambda t, m: torch.cat([t, m]), more)

    def _index(self, slots: Sequence[int]) -> Tensor:
        device = next((t.device for _, t in self.initial.named_tensors()), torch.device("cpu"))
        return torch.tensor(slots, device=device)


def _isolated(work: Callable[[Sequence[Turn]], None], turns: Sequence[Turn]) -> None:
    """Do ``work`` together; if the model fails, one by one, to find whose fault it is: nothing was scattered or read before."""
    if not turns:
        return
    try:
        work(turns)
    except Exception as error:  # whatever a model raises ends a stream, not the server
        if len(turns) == 1:
            turns[0].error = error
            return
        for turn in turns:
            _isolated(work, [turn])


def _read(turn: Turn, read: Callable[[Any, int], list[Event]], output: Any, row: int) -> None:
    if turn.error is None:
        try:
            turn.events += read(output, row)
        except Exception as error:  # as above
            turn.error = error


def _batch(pieces: Sequence[Audio], rows: int) -> tuple[Tensor, Tensor]:
    """Audio (rows, longest piece) and samples (rows,)."""
    audio = torch.zeros(rows, max(map(len, pieces)))
    lengths = torch.zeros(rows, dtype=torch.long)
    for row, piece in enumerate(pieces):
        audio[row, : len(piece)] = torch.from_numpy(piece)
        lengths[row] = len(piece)
    return audio, lengths


def to_host(output: Any) -> Any:
    """Tensors of an output, nested in lists and tuples, on the CPU: readers look at single numbers."""
    if isinstance(output, Tensor):
        return output.cpu()
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return type(output)(*map(to_host, output))
    if isinstance(output, list | tuple):
        return type(output)(map(to_host, output))
    return output
