"""One stream of a scheduler: audio in, events out, by asyncio. All of it runs on the event loop."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..events import Event, Final, Lag, Partial
from ..pipeline import Samples, as_float
from ..recognizer import Front, Reader, Recognizer
from ..snapshot import Position
from ..state import State
from .backlog import Audio, Backlog, Piece
from .config import SchedulerConfig
from .slots import Turn

#: Flushes of a stream that may wait.
_FLUSHES = 8
_GOLDEN = (math.sqrt(5) - 1) / 2


class StreamFailed(ValueError):
    """A stream that ended before its time; ``code`` says why: "failed", "slow-reader" or "closed"."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Flushed:
    """Everything before the flush named ``id`` is decoded; the text of all of it was the event before."""

    id: str


@dataclass(frozen=True)
class Saved:
    """The stream after ``samples`` samples of its caller's audio, and after all events before this one."""

    data: bytes | memoryview
    samples: int


Output = Event | Flushed | Lag | Saved


class _Saving(NamedTuple):
    """A `Saved` whose bytes are being put together, with those of other streams."""

    packed: asyncio.Future[list[memoryview]]
    place: int
    samples: int


class _Mark(NamedTuple):
    """A request that stands at a place in the audio: a flush, or the end (``id`` None)."""

    at: int
    id: str | None
    tail: Audio
    since: float


class LiveStream:
    """A stream, made by `Scheduler.open`; iterate over it for what it says.

    Attributes:
        samples: of the caller's audio, taken in so far.
        closed: whether it takes no more audio.
    """

    def __init__(
        self,
        slot: int,
        reader: Reader,
        initial: Mapping[str, State],
        front: Front | None,
        save_every: int | None,
        runtime: Runtime,
        start: Position,
    ):
        self.slot, self.reader = slot, reader
        self.samples, self.closed = 0, False
        self._initial: Mapping[str, State] | None = initial
        self._vad = "vad" in initial
        self._front, self._save_every, self._runtime = front, save_every, runtime
        self._backlog = Backlog(runtime.recognizer, start.pending, start.heard, runtime.leads)
        # streams that begin together are not saved together: multiples of the golden ratio lie evenly however many there are
        self._saved_at = start.heard - int((slot * _GOLDEN % 1) * (save_every or 0))
        self._marks: deque[_Mark] = deque()
        self._room = asyncio.Event()
        self._outbox: deque[Output | _Saving] = deque()
        self._said = asyncio.Event()
        self._over: Exception | bool = False
        self._shown = Partial(0, "")
        self._overlaid = False  # whether a flush showed text that the reader does not know of
        self._lag_told = 0.0

    async def push(self, samples: Samples, span: float = 0.0) -> None:
        """Hear mono audio (n,), float32 in [-1, 1] or int16; waits while too much of it is undecoded or ahead of real time.

        Args:
            samples: the audio.
            span: seconds over which it came, if it was gathered.

        Raises:
            ValueError: not mono audio, not finite, or the stream has ended.
        """
        audio = samples if samples.dtype == np.int16 and samples.ndim == 1 and not self._front else as_float(samples)
        while not self.closed and self.queued > self._runtime.config.queue_s and self.ready:  # less than a chunk waits for more
            self._room.clear()
            await self._room.wait()
        if (ahead := self._backlog.clock - time.monotonic() - self._runtime.config.ahead_s) > 0:
            await asyncio.sleep(ahead)
        self._check()
        self.samples += len(audio)
        self._append(self._front.push(as_float(audio)) if self._front else audio, span)

    async def flush(self, id: str) -> None:
        """Ask for the text of everything so far, as if the stream ended here, and a `Flushed`; the stream goes on.

        Waits while many flushes are not answered: each costs more than the audio before it.

        Raises:
            ValueError: the stream has ended.
        """
        while not self.closed and len(self._marks) >= _FLUSHES:
            self._room.clear()
            await self._room.wait()
        self._check()
        tail = np.zeros(0, np.float32)
        if self._front:
            tail = type(self._front).from_bytes(self._front.to_bytes()).finish()
        self._mark(id, tail)

    async def finish(self) -> None:
        """End the stream; its last events follow, and then the iteration ends."""
        self._check()
        if self._front:
            self._append(self._front.finish())
        self.closed = True
        self._mark(None, np.zeros(0, np.float32))

    def close(self) -> None:
        """Leave the stream at once; what was not decoded is not heard."""
        self.fail(StreamFailed("closed", "the stream was closed"))

    async def __aiter__(self) -> AsyncIterator[Output]:
        """What the stream says, in order, until it has finished.

        Raises:
            StreamFailed: it could not go on.
        """
        while True:
            while self._outbox:
                item = self._outbox.popleft()
                if not isinstance(item, _Saving):
                    yield item
                elif await _settled(item.packed):
                    yield Saved(item.packed.result()[item.place], item.samples)
            if self._over is True:
                return
            if self._over:
                raise self._over
            self._said.clear()
            await self._said.wait()

    @property
    def queued(self) -> float:
        """Seconds of audio that wait."""
        return self._backlog.seconds

    def wanted(self, rate: int) -> int:
        """Samples at ``rate`` Hz that are missing for the next whole chunk; of resampled audio a little more, which the resampler holds."""
        return -(-self._backlog.wanted * rate // self._runtime.recognizer.sample_rate)

    @property
    def over(self) -> bool:
        """Whether nothing more comes of the stream."""
        return bool(self._over)

    def fail(self, error: StreamFailed) -> None:
        """End the stream with an error."""
        if not self._over:
            self._end(error)
            self._runtime.release(self)

    # What follows is the scheduler's side.

    @property
    def ready(self) -> int:
        """Whole chunks that may be decided, or 1 for a mark that has been reached; 0 if there is nothing to do."""
        return 0 if self._over else self._chunks() or int(bool(self._marks))

    @property
    def since(self) -> float:
        """When the next turn became possible."""
        return self._backlog.since if self._chunks() else self._marks[0].since

    @property
    def due(self) -> float:
        """When the audio of the next turn was spoken, as far as the clock can tell: the turn is not urgent before."""
        if not self._chunks():
            return max(self._marks[0].since, self._backlog.clock) if self._marks[0].id is None else self._marks[0].since
        return self._backlog.due

    def turn(self, chunks: int) -> Turn:
        """Take up to ``chunks`` whole chunks, or the mark that has been reached."""
        initial, self._initial = self._initial, None
        backlog = self._backlog
        if whole := min(chunks, self._chunks()):
            whole = 1 if backlog.leading else whole
            turn = Turn(self.slot, self.reader, [backlog.take(whole)], self._vad, initial)
            self._room.set()
            if self._save_every and backlog.heard - self._saved_at >= self._save_every and not self._marks:
                self._saved_at = backlog.heard
                turn.save = Position(backlog.peek(), backlog.heard, self._front.to_bytes() if self._front else b"")
            return turn
        mark = self._marks[0]
        audio = np.concatenate([backlog.peek(mark.at - backlog.heard), mark.tail])
        size = backlog.size(backlog.chunks(backlog.heard + len(audio)))
        pieces = [piece for piece in (audio[:size], audio[size:]) if len(piece)]
        return Turn(self.slot, self.reader, pieces, self._vad, initial, ends=True, keeps=mark.id is not None)

    def take(self, turn: Turn, samples: int, lag: float, packed: tuple[asyncio.Future[list[memoryview]], int] | None = None) -> None:
        """Say what came of a turn.

        Args:
            turn: taken.
            samples: of the caller's audio, behind ``turn.save``.
            lag: seconds that it came behind real time.
            packed: what ``turn.save`` will be as bytes, and its place among others.
        """
        if self._over:
            return
        if turn.error is not None:
            self.fail(StreamFailed("failed", f"the model failed on this stream: {type(turn.error).__name__}"))
            return
        if turn.keeps:
            self._overlay(turn.events)
            self._say(Flushed(str(self._marks.popleft().id)))
            self._room.set()
        else:
            for event in turn.events:
                self._show(event)
            if self._overlaid and not turn.events and not turn.ends:
                self._say(self._shown)
            self._overlaid = False
        if packed:
            self._say(_Saving(*packed, samples))
        self._tell(lag)
        if turn.ends and not turn.keeps:
            self._end(True)
            self._runtime.release(self)
        elif len(self._outbox) > self._runtime.config.outbox:
            self.fail(StreamFailed("slow-reader", "events are not read: read them as they come"))

    def _check(self) -> None:
        if isinstance(self._over, Exception):
            raise self._over
        if self.closed or self._over:
            raise ValueError("the stream has ended: start a new one")

    def _append(self, audio: Piece, span: float = 0.0) -> None:
        if len(audio):
            self._backlog.append(audio, span)
            self._runtime.wake(self)

    def _mark(self, id: str | None, tail: Audio) -> None:
        self._marks.append(_Mark(self._backlog.end, id, tail, time.monotonic()))
        self._runtime.wake(self)

    def _chunks(self) -> int:
        return self._backlog.chunks(self._marks[0].at if self._marks else None)

    def _show(self, event: Event) -> None:
        self._shown = event if isinstance(event, Partial) else Partial(event.segment + 1, "")
        self._say(event)

    def _overlay(self, events: list[Event]) -> None:
        """Show a flush's words as one partial text of the running segment: they may yet change."""
        heard = [e for e in events if isinstance(e, Final)]
        self._say(Partial(self._shown.segment, " ".join(e.text for e in heard), tuple(w for e in heard for w in e.words)))
        self._overlaid = True

    def _tell(self, lag: float) -> None:
        """Report a delay once a second while it lasts, and its end."""
        now, limit = time.monotonic(), self._runtime.config.lag_s
        if lag > limit and now - self._lag_told >= 1.0:
            self._lag_told = now
            self._say(Lag(lag))
        elif lag < limit / 2 and self._lag_told:
            self._lag_told = 0.0
            self._say(Lag(0.0))

    def _say(self, item: Output | _Saving) -> None:
        """Put an item out; partial text that no one has read yet is superseded."""
        if isinstance(item, Partial) and self._outbox and isinstance(self._outbox[-1], Partial):
            self._outbox.pop()
        self._outbox.append(item)
        self._said.set()

    def _end(self, over: Exception | bool) -> None:
        self.closed, self._over = True, over
        self._backlog.clear()
        self._marks.clear()
        self._room.set()
        self._said.set()


@dataclass(frozen=True)
class Runtime:
    """What a stream knows of its scheduler."""

    config: SchedulerConfig
    recognizer: Recognizer
    wake: Callable[[LiveStream], None]
    release: Callable[[LiveStream], None]
    leads: bool = False


async def _settled(packed: asyncio.Future[list[memoryview]]) -> bool:
    """Wait for bytes that other streams wait for, too; whether there are any."""
    if not packed.done():
        await asyncio.wait((packed,))
    return not packed.cancelled() and packed.exception() is None


__all__ = ["Flushed", "Lag", "LiveStream", "Output", "Runtime", "Saved", "StreamFailed"]
