"""The model's side of a tick: step the slots that are due together, read what came of it. Runs on the scheduler's one worker thread."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..events import Event
from ..graphs import GraphedRows, GraphedStep, owned
from ..recognizer import Reader, Recognizer
from ..snapshot import Layout, Packing, Position, rows_of
from ..state import State
from ..vad import SileroVad, VoicedReader
from .outputs import Arriving, flat, sent, to_host

Audio = NDArray[np.float32]

#: Batch sizes that graphs are recorded for, on an accelerator: fewer than powers of two, as each takes time at the start.
BUCKETS = (4, 16, 32, 64, 128, 256, 512, 1024)
#: The same for streams that begin, end or are saved together; more take turns.
TOGETHER = (4, 16, 64)


@dataclass
class Turn:
    """What one stream does in one tick.

    Attributes:
        slot: where its state lies.
        reader: turns outputs into events.
        audio: to step over, one piece after another; only the last may be less than whole chunks.
        vad: whether its reader wants to know where there is speech.
        initial: states to begin with, on a stream's first turn: "state" of the network and "vad", if wanted.
        ends: whether the stream is flushed behind the audio.
        keeps: whether state and reader stay as they were before: a flush without reset works on copies.
        place: the slot that it steps in, which `Slots.run` decides; 0: it works on a copy outside the pool.
        save: the position after the turn, if the stream is to be saved.
        speech: of each piece of audio, whether there was speech in each window that it completed.
        heard: outputs of its pieces, with its row in each.
        last: output of its flush, likewise, where that was recorded.
        events: what came of it.
        error: what went wrong, in this stream alone.
    """

    slot: int
    reader: Reader
    audio: Sequence[Audio]
    vad: bool = False
    initial: Mapping[str, State] | None = None
    ends: bool = False
    keeps: bool = False
    place: int = 0
    save: Position | None = None
    speech: list[list[bool]] = field(default_factory=list)
    heard: list[tuple[Arriving, int]] = field(default_factory=list)
    last: tuple[Arriving, int] | None = None
    events: list[Event] = field(default_factory=list)
    error: Exception | None = None


class Slots:
    """The states of all streams of a recogniser.

    Args:
        recognizer: the model.
        vad: voice activity detection, for the streams that want it.
        buckets: batch sizes that steps are recorded for, where states lie on a GPU.
        streams: most streams at a time. Recorded steps hold addresses, so a pool on a GPU has its whole size from the beginning;
            elsewhere it grows.

    Attributes:
        spent: seconds of the last `run` by what they went into; "step" has the wait for an accelerator in it.
        packing: of the last `run`: turns whose streams are to be saved, and what puts their bytes together.
    """

    def __init__(self, recognizer: Recognizer, vad: SileroVad | None = None, buckets: Sequence[int] = BUCKETS, streams: int = 64):
        self._recognizer, self._vad, self._buckets = recognizer, vad, buckets
        self.spent: dict[str, float] = {}
        self.packing: list[tuple[Sequence[Turn], Packing]] = []
        self.initial: dict[str, State] = {"state": recognizer.init_state(1)}
        self.initial_with_vad = {**self.initial, "vad": vad.init_state(1)} if vad else self.initial
        self._layouts = {False: Layout(self.initial), True: Layout(self.initial_with_vad)}
        self._device = next((t.device for _, t in self.initial["state"].named_tensors()), torch.device("cpu"))
        self._step_slots = GraphedStep(self._stepped, recognizer.init_state, buckets)
        self._flush_slots = GraphedStep(self._flushed, recognizer.init_state, TOGETHER)
        self._begin_slots = GraphedRows(self._begun, self._device, TOGETHER)
        self._copy_slots = GraphedRows(self._copied, self._device, TOGETHER)
        self._move_slots = GraphedRows(self._moved, self._device, [2 * n for n in TOGETHER])
        self._pool = self.initial["state"].map(torch.clone)  # slot 0 only fills up batches
        self._voices = vad.init_state(1) if vad else None
        self._spare = range(streams + 1, streams + 1 + TOGETHER[-1] if self.recorded else 0)  # slots for flushes that change nothing
        if self.recorded:
            self._grow(self._spare.stop)

    @property
    def recorded(self) -> bool:
        """Whether steps of the same shape are recorded, so that the first ones are slow."""
        return self._device.type == "cuda"

    def settle(self) -> None:
        """End a measurement: give back the memory that it took, and record no more."""
        if self.recorded:
            self._step_slots.stop_recording()
            self._flush_slots.stop_recording()
        else:
            self._pool = self.initial["state"].map(torch.clone)
        if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):  # glibc keeps what was freed
            libc.malloc_trim(0)

    @property
    def batches(self) -> Sequence[int]:
        """Numbers of streams whose steps are worth measuring beforehand: those that are recorded."""
        return self._buckets if self.recorded else [4**i for i in range(8)]

    @property
    def bytes_per_stream(self) -> int:
        """Of state, voice activity included."""
        return sum(state.bytes_per_stream for state in self.initial_with_vad.values())

    @torch.no_grad()
    def run(self, turns: Sequence[Turn]) -> None:
        """Take the turns; an error is left in the turn that caused it and touches no other.

        All that an accelerator has to do is handed to it before any of what comes of it is read.
        """
        self.spent, self.packing = {}, []
        stepping = self._place(turns)
        with self._timed("begin"):
            self._grow(max(turn.slot for turn in turns) + 1)
            self._begin([turn for turn in turns if turn.initial])
            if moving := [slot for turn in stepping if turn.keeps for slot in (turn.slot, turn.place)]:
                self._move_slots(moving)
        with self._timed("listen"):
            _isolated(self._listen, [turn for turn in turns if turn.vad])
        with self._timed("step"):
            self._step_all(stepping)
        ending = [turn for turn in stepping if turn.ends and turn.error is None]
        with self._timed("end"):
            for some in _parts(ending, TOGETHER[-1]):
                _isolated(self._flush, some)
            _isolated(self._end, [turn for turn in turns if not turn.place])
        with self._timed("save"):
            saved = [turn for turn in turns if turn.save and turn.error is None]
            copies = [copied for vad in (False, True) for copied in self._copy([turn for turn in saved if turn.vad == vad])]
        with self._timed("step"):
            for output in {id(output): output for turn in stepping for output, _ in turn.heard}.values():
                output.get()
        with self._timed("read"):
            for turn in stepping:
                for i, (output, row) in enumerate(turn.heard):
                    _read(turn, output.get(), row, i)
        with self._timed("end"):
            for turn in ending:
                if turn.last:
                    _read(turn, turn.last[0].get(), turn.last[1])
        with self._timed("save"):  # once the readers have read
            self._pack(copies)

    def _place(self, turns: Sequence[Turn]) -> list[Turn]:
        """Decide where the turns are taken, and give those that step in the pool: in their own slots, or in spare ones.

        Where steps are not recorded, the others end on copies.
        """
        spare = iter(self._spare)
        for turn in turns:
            turn.place = next(spare, 0) if turn.keeps else turn.slot if self.recorded or not turn.ends else 0
            if turn.keeps:
                reader, turn.reader = turn.reader, self._recognizer.reader()
                turn.reader.restore(reader.save())
            if turn.ends and turn.place:
                turn.audio = self._whole(turn.audio)
        return [turn for turn in turns if turn.place]

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.spent[part] = self.spent.get(part, 0.0) + time.perf_counter() - began

    def _begin(self, turns: Sequence[Turn]) -> None:
        fresh = [turn.slot for turn in turns if turn.initial and turn.initial["state"] is self.initial["state"]]
        for some in _parts(fresh, TOGETHER[-1]):
            self._begin_slots(some)
        for turn in turns:
            if turn.initial and turn.initial["state"] is not self.initial["state"]:
                _put(self._pool, self._index([turn.slot]), turn.initial["state"])
            if turn.initial and "vad" in turn.initial and self._voices:
                _put(self._voices, torch.tensor([turn.slot]), turn.initial["vad"])

    def _begun(self, rows: Tensor) -> None:
        """Put the initial state into slots."""
        _put(self._pool, rows, self.initial["state"].map(lambda t: t.expand(len(rows), *t.shape[1:])))

    def _whole(self, audio: Sequence[Audio]) -> list[Audio]:
        """Audio in pieces of one chunk, the last of which may be less: the shape of which steps are recorded."""
        chunk = self._recognizer.chunk
        joined = np.concatenate(audio) if audio else np.zeros(0, np.float32)
        return [joined[at : at + chunk] for at in range(0, len(joined), chunk)]

    def _step_all(self, turns: Sequence[Turn]) -> None:
        for i in range(max((len(turn.audio) for turn in turns), default=0)):
            for together in self._shapes([turn for turn in turns if len(turn.audio) > i and turn.error is None], i):
                _isolated(partial(self._step, piece=i), together)

    def _shapes(self, turns: Sequence[Turn], piece: int) -> Iterable[Sequence[Turn]]:
        """Turns whose audio is as long (less than a chunk is filled up), where steps are recorded by shape; all of them elsewhere."""
        if not self.recorded:
            return [turns]
        shapes: dict[int, list[Turn]] = {}
        for turn in turns:
            shapes.setdefault(max(len(turn.audio[piece]), self._recognizer.chunk), []).append(turn)
        return shapes.values()

    def _step(self, turns: Sequence[Turn], piece: int) -> None:
        """Step the slots themselves; a turn that ends needs its slot no more."""
        least = self._recognizer.chunk if self.recorded else 0
        audio, lengths = _batch([turn.audio[piece] for turn in turns], least, self._device.type == "cuda")
        output = Arriving(self._step_slots(audio, lengths, self._pool, [turn.place for turn in turns]))
        for row, turn in enumerate(turns):
            turn.heard.append((output, row))

    def _stepped(self, audio: Tensor, lengths: Tensor, state: Any) -> tuple[Any, Any]:
        output, state = self._recognizer.step(audio, lengths, state)
        return (flat(output) if self.recorded else output), state

    def _flush(self, turns: Sequence[Turn]) -> None:
        """Flush slots that have ended, by recorded steps."""
        nothing = torch.zeros(len(turns), 0), torch.zeros(len(turns), dtype=torch.long)
        output = Arriving(self._flush_slots(*nothing, self._pool, [turn.place for turn in turns]))
        for row, turn in enumerate(turns):
            turn.last = output, row

    def _flushed(self, audio: Tensor, lengths: Tensor, state: Any) -> tuple[Any, Any]:
        """A flush as a step that hears nothing."""
        output = self._recognizer.flush(owned(state))
        return (flat(output) if self.recorded else output), state

    def _end(self, turns: Sequence[Turn]) -> None:
        """Hear and flush on copies of the slots."""
        state = self._pool.gather(self._index([turn.slot for turn in turns]))
        heard: list[list[tuple[Any, int]]] = [[] for _ in turns]
        for i in range(max(len(turn.audio) for turn in turns)):
            pieces = [turn.audio[i] if i < len(turn.audio) else np.zeros(0, np.float32) for turn in turns]
            audio, lengths = _batch(pieces)
            output, state = self._recognizer.step(audio.to(self._device), lengths.to(self._device), state)
            output = to_host(output)
            for row, piece in enumerate(pieces):
                if len(piece):
                    heard[row].append((output, row))
        last = to_host(self._recognizer.flush(state))
        for row, (turn, outputs) in enumerate(zip(turns, heard, strict=True)):
            for i, (output, place) in enumerate(outputs):
                _read(turn, output, place, i)
            _read(turn, last, row)

    def _listen(self, turns: Sequence[Turn]) -> None:
        """Find where there is speech in each piece of the turns' audio."""
        if not self._vad or not self._voices:
            return
        slots = torch.tensor([turn.slot for turn in turns])
        state = self._voices.gather(slots)
        for turn in turns:
            turn.speech = []
        for i in range(max(len(turn.audio) for turn in turns)):
            pieces = [turn.audio[i] if i < len(turn.audio) else np.zeros(0, np.float32) for turn in turns]
            speech, state = self._vad.step(pieces, state)
            for row, turn in enumerate(turns):
                turn.speech.append(speech[row])
        stay = torch.tensor([row for row, turn in enumerate(turns) if not turn.keeps], dtype=torch.long)
        _put(self._voices, slots[stay], state.gather(stay))

    def _copy(self, turns: Sequence[Turn]) -> Iterator[tuple[Sequence[Turn], Sequence[Tensor], Callable[[], object] | None]]:
        """Bytes of the turns' states, on their way to the host."""
        for some in _parts(turns, TOGETHER[-1]):
            slots = [turn.slot for turn in some]
            rows: list[Tensor] = []
            wait = None
            if (copied := self._copy_slots(slots)) is not None:
                state, wait = sent(copied)
                rows.append(state)
            if some[0].vad and self._voices and (voices := rows_of(self._voices, torch.tensor(slots))) is not None:
                rows.append(voices)
            yield some, rows, wait

    def _moved(self, rows: Tensor) -> None:
        """Put a copy of the first slot of each pair into the second."""
        first, second = rows.view(-1, 2).T.contiguous()
        _put(self._pool, second, self._pool.gather(first))

    def _copied(self, rows: Tensor) -> Tensor | None:
        return rows_of(self._pool, rows)

    def _pack(self, copies: Sequence[tuple[Sequence[Turn], Sequence[Tensor], Callable[[], object] | None]]) -> None:
        for turns, rows, wait in copies:
            positions = [turn.save for turn in turns if turn.save]
            self.packing.append((turns, Packing(self._layouts[turns[0].vad], positions, [turn.reader for turn in turns], rows, wait)))

    def _grow(self, slots: int) -> None:
        if slots > (have := self._pool.slots):
            more = max(slots, 2 * have) - have
            self._pool = self._pool.map(lambda t, m: torch.cat([t, m]), self._recognizer.init_state(more))
        if self._vad and self._voices and slots > (have := self._voices.slots):
            more = max(slots, 2 * have) - have
            self._voices = self._voices.map(lambda t, m: torch.cat([t, m]), self._vad.init_state(more))

    def _index(self, slots: Sequence[int]) -> Tensor:
        return torch.tensor(slots, device=self._device)


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


def _read(turn: Turn, output: Any, row: int, piece: int | None = None) -> None:
    """Turn an output into events: that of a piece of the turn's audio, or of the flush."""
    if turn.error is not None:
        return
    try:
        if piece is None:
            turn.events += turn.reader.finish(output, row)
            return
        if turn.speech and isinstance(turn.reader, VoicedReader):
            turn.reader.voice(turn.speech[piece])
        turn.events += turn.reader.read(output, row)
    except Exception as error:  # as above
        turn.error = error


def _parts(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """One behind the other, up to ``size`` at a time."""
    return (items[at : at + size] for at in range(0, len(items), size))


def _put(pool: State, slots: Tensor, part: State) -> None:
    """Write states into slots, in place: a tick touches its own slots only."""
    pool.map(lambda t, p: t.index_copy_(0, slots, p), part)


def _batch(pieces: Sequence[Audio], least: int = 0, pinned: bool = False) -> tuple[Tensor, Tensor]:
    """Audio (rows, longest piece or ``least``) and samples (rows,); ``pinned``: where an accelerator finds it without waiting."""
    lengths = [len(piece) for piece in pieces]
    audio = torch.empty(len(pieces), max(*lengths, least), pin_memory=pinned)
    for row, piece in zip(audio.numpy(), pieces, strict=True):
        row[: len(piece)] = piece
        row[len(piece) :] = 0
    return audio, torch.tensor(lengths)
