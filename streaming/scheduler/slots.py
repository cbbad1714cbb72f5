"""The model's side of a tick: step the slots that are due together, read what came of it. Runs on the scheduler's one worker thread."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..events import Event
from ..graphs import GraphedStep, owned
from ..recognizer import Reader, Recognizer
from ..snapshot import Position, pack_all
from ..state import State
from ..vad import SileroVad, VoicedReader

Audio = NDArray[np.float32]

#: Batch sizes that graphs are recorded for, on an accelerator: fewer than powers of two, as each takes time at the start.
BUCKETS = (1, 4, 16, 32, 64, 128, 256, 512, 1024)
#: The same for streams that end together.
ENDS = (1, 4, 16, 64)


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
        keeps: whether the state stays as it was before: a flush without reset reads a copy.
        save: the position after the turn, if the stream is to be saved.
        speech: of each piece of audio, whether there was speech in each window that it completed.
        heard: outputs of its pieces, with its row in each, where a turn that ends has heard them already.
        events: what came of it.
        saved: the stream as bytes, if ``save``.
        error: what went wrong, in this stream alone.
    """

    slot: int
    reader: Reader
    audio: Sequence[Audio]
    vad: bool = False
    initial: Mapping[str, State] | None = None
    ends: bool = False
    keeps: bool = False
    save: Position | None = None
    speech: list[list[bool]] = field(default_factory=list)
    heard: list[tuple[Any, int]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    saved: bytes | None = None
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
    """

    def __init__(self, recognizer: Recognizer, vad: SileroVad | None = None, buckets: Sequence[int] = BUCKETS, streams: int = 64):
        self._recognizer, self._vad, self._buckets = recognizer, vad, buckets
        self.spent: dict[str, float] = {}
        self.initial: dict[str, State] = {"state": recognizer.init_state(1)}
        self.initial_with_vad = {**self.initial, "vad": vad.init_state(1)} if vad else self.initial
        self._device = next((t.device for _, t in self.initial["state"].named_tensors()), torch.device("cpu"))
        self._step_slots = GraphedStep(recognizer.step, recognizer.init_state, buckets)
        self._flush_slots = GraphedStep(self._flushed, recognizer.init_state, ENDS)
        self._pool = self.initial["state"].map(torch.clone)  # slot 0 only fills up batches
        self._voices = vad.init_state(1) if vad else None
        if self.recorded:
            self._grow(streams + 1)

    @property
    def recorded(self) -> bool:
        """Whether steps of the same shape are recorded, so that the first ones are slow."""
        return self._device.type == "cuda"

    def release(self) -> None:
        """Forget all streams, and give back the memory that a measurement took."""
        if not self.recorded:
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
        """Take the turns; an error is left in the turn that caused it and touches no other."""
        self.spent = {}
        with self._timed("begin"):
            self._grow(max(turn.slot for turn in turns) + 1)
            self._begin([turn for turn in turns if turn.initial])
        with self._timed("listen"):
            _isolated(self._listen, [turn for turn in turns if turn.vad])
        for together in self._shapes([turn for turn in turns if not turn.ends]):
            _isolated(self._step, together)
        with self._timed("end"):
            _isolated(self._end, [turn for turn in turns if turn.ends and (turn.keeps or not self.recorded)])
            _isolated(self._end_in_place, [turn for turn in turns if turn.ends and not turn.keeps and self.recorded])
        with self._timed("save"):
            saved = [turn for turn in turns if turn.save and turn.error is None]
            for vad in (False, True):
                self._save([turn for turn in saved if turn.vad == vad])

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.spent[part] = self.spent.get(part, 0.0) + time.perf_counter() - began

    def _begin(self, turns: Sequence[Turn]) -> None:
        fresh = [turn.slot for turn in turns if turn.initial and turn.initial["state"] is self.initial["state"]]
        if fresh:
            _put(self._pool, self._index(fresh), self.initial["state"].map(lambda t: t.expand(len(fresh), *t.shape[1:])))
        for turn in turns:
            if turn.initial and turn.initial["state"] is not self.initial["state"]:
                _put(self._pool, self._index([turn.slot]), turn.initial["state"])
            if turn.initial and "vad" in turn.initial and self._voices:
                _put(self._voices, torch.tensor([turn.slot]), turn.initial["vad"])

    def _shapes(self, turns: Sequence[Turn], piece: int = 0) -> Iterable[Sequence[Turn]]:
        """Turns whose audio is as long (less than a chunk is filled up), where steps are recorded by shape; all of them elsewhere."""
        if not self.recorded:
            return [turns]
        shapes: dict[int, list[Turn]] = {}
        for turn in turns:
            shapes.setdefault(max(len(turn.audio[piece]), self._recognizer.chunk), []).append(turn)
        return shapes.values()

    def _step(self, turns: Sequence[Turn]) -> None:
        with self._timed("step"):
            audio, lengths = _batch([turn.audio[0] for turn in turns])
            output = to_host(self._step_slots(audio, lengths, self._pool, [turn.slot for turn in turns]))
        with self._timed("read"):
            for row, turn in enumerate(turns):
                _read(turn, turn.reader, output, row, 0)

    def _end(self, turns: Sequence[Turn]) -> None:
        """On copies of the slots."""
        state = self._pool.gather(self._index([turn.slot for turn in turns]))
        heard: list[list[Any]] = [[] for _ in turns]
        for i in range(max(len(turn.audio) for turn in turns)):
            pieces = [turn.audio[i] if i < len(turn.audio) else np.zeros(0, np.float32) for turn in turns]
            audio, lengths = _batch(pieces)
            output, state = self._recognizer.step(audio.to(self._device), lengths.to(self._device), state)
            output = to_host(output)
            for row, piece in enumerate(pieces):
                if len(piece):
                    heard[row].append((output, row))
        self._finish(turns, heard, to_host(self._recognizer.flush(state)))

    def _end_in_place(self, turns: Sequence[Turn]) -> None:
        """The same by recorded steps, on the slots themselves, which no one needs any more; what was heard is not heard again."""
        for i in range(max(len(turn.audio) for turn in turns)):
            hearing = [turn for turn in turns if len(turn.heard) == i < len(turn.audio)]
            for together in self._shapes(hearing, i):
                audio, lengths = _batch([turn.audio[i] for turn in together], self._recognizer.chunk)
                output = to_host(self._step_slots(audio, lengths, self._pool, [turn.slot for turn in together]))
                for row, turn in enumerate(together):
                    turn.heard.append((output, row))
        nothing = torch.zeros(len(turns), 0), torch.zeros(len(turns), dtype=torch.long)
        last = to_host(self._flush_slots(*nothing, self._pool, [turn.slot for turn in turns]))
        self._finish(turns, [turn.heard for turn in turns], last)

    def _flushed(self, audio: Tensor, lengths: Tensor, state: Any) -> tuple[Any, Any]:
        """A flush as a step that hears nothing."""
        return self._recognizer.flush(owned(state)), state

    def _finish(self, turns: Sequence[Turn], heard: Sequence[Sequence[tuple[Any, int]]], last: Any) -> None:
        for row, (turn, outputs) in enumerate(zip(turns, heard, strict=True)):
            reader = self._copy(turn.reader) if turn.keeps else turn.reader
            for i, (output, place) in enumerate(outputs):
                _read(turn, reader, output, place, i)
            _read(turn, reader, last, row)

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

    def _save(self, turns: Sequence[Turn]) -> None:
        if not turns:
            return
        parts: dict[str, State] = {"state": self._pool.gather(self._index([turn.slot for turn in turns]))}
        if turns[0].vad and self._voices:
            parts["vad"] = self._voices.gather(torch.tensor([turn.slot for turn in turns]))
        positions = [turn.save for turn in turns if turn.save]
        for turn, saved in zip(turns, pack_all(positions, [turn.reader for turn in turns], parts), strict=True):
            turn.saved = saved

    def _copy(self, reader: Reader) -> Reader:
        copy = self._recognizer.reader()
        copy.restore(reader.save())
        return copy

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


def _read(turn: Turn, reader: Reader, output: Any, row: int, piece: int | None = None) -> None:
    """Turn an output into events: that of a piece of the turn's audio, or of the flush."""
    if turn.error is not None:
        return
    try:
        if piece is None:
            turn.events += reader.finish(output, row)
            return
        if turn.speech and isinstance(reader, VoicedReader):
            reader.voice(turn.speech[piece])
        turn.events += reader.read(output, row)
    except Exception as error:  # as above
        turn.error = error


def _put(pool: State, slots: Tensor, part: State) -> None:
    """Write states into slots, in place: a tick touches its own slots only."""
    pool.map(lambda t, p: t.index_copy_(0, slots, p), part)


def _batch(pieces: Sequence[Audio], least: int = 0) -> tuple[Tensor, Tensor]:
    """Audio (rows, longest piece or ``least``) and samples (rows,)."""
    lengths = [len(piece) for piece in pieces]
    audio = np.zeros((len(pieces), max(*lengths, least)), np.float32)
    for row, piece in zip(audio, pieces, strict=True):
        row[: len(piece)] = piece
    return torch.from_numpy(audio), torch.tensor(lengths)


def to_host(output: Any) -> Any:
    """Tensors of an output, nested in lists and tuples, as arrays: readers look at single numbers, of which tensors are slow to give."""
    if isinstance(output, Tensor):
        return (output.float() if output.dtype == torch.bfloat16 else output).numpy(force=True)
    if isinstance(output, tuple) and hasattr(output, "_fields"):
        return type(output)(*map(to_host, output))
    if isinstance(output, list | tuple):
        return type(output)(map(to_host, output))
    return output
