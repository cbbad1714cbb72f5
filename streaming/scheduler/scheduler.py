"""The scheduler: who steps, when, and who is let in."""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np

from ..pipeline import CHUNKS_PER_STEP
from ..recognizer import Front, Recognizer
from ..snapshot import Position, unpack
from ..vad import SAMPLE_RATE, SileroVad, VadError, VoicedReader
from .config import Refused, SchedulerConfig
from .live import LiveStream, Runtime, StreamFailed
from .slots import BUCKETS, TOGETHER, Audio, Slots, Turn
from .times import StepTimes

logger = logging.getLogger(__name__)

#: Where steps are recorded: streams that may take several chunks each in a step, and how many of them, which are few shapes.
_HURRYING, _HURRIED = 4, (1, 4, 16)
#: Where steps are recorded: streams from which on chunks wait so many times as long as a step of one takes, and how long at most.
_MANY, _PATIENCE, _LONGEST_S = 64, 4, 0.06
#: Seconds without lateness after which streams are taken again.
_CALM_S = 2.0


#: What streams will be as bytes, and the place of one among them.
Packed = tuple[asyncio.Future[list[memoryview]], int]


@dataclass(frozen=True)
class Tick:
    """What a tick did.

    Attributes:
        streams: stepped together.
        chunks: decided in all.
        seconds: that it took.
        delays: of each stream, from when its audio had been spoken to its events.
        spent: seconds by what they went into: "choose" and "settle" on the event loop, "wait" for the model's thread, and there the
            parts of `Slots.spent`.
    """

    streams: int
    chunks: int
    seconds: float
    delays: tuple[float, ...]
    spent: Mapping[str, float]


class Scheduler:
    """Runs the streams of one recogniser; an asynchronous context manager.

    Streams with a complete chunk are stepped together; a chunk waits for company until the earliest of them has waited
    ``patience_s`` (longer where steps are recorded and streams many), and for the step that runs: the longer steps take, the more streams
    share the next. Audio that came sooner than it can have been spoken, as from a file, yields to live audio. A stream that says nothing
    costs nothing.

    Args:
        recognizer: the model.
        config: limits.
        worker: one thread, on which the model runs; schedulers that share a machine may share it.
        vad: voice activity detection, for streams that want it.
        buckets: see `Slots`.
        observe: called on the event loop after each tick.
        calibrate: whether to measure the model before the first stream; without, it is learnt from the first steps.

    Raises:
        ValueError: voice activity detection for a recogniser that hears at another rate.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        config: SchedulerConfig | None = None,
        worker: ThreadPoolExecutor | None = None,
        vad: SileroVad | None = None,
        buckets: Sequence[int] = BUCKETS,
        observe: Callable[[Tick], None] | None = None,
        calibrate: bool = True,
    ):
        self.config = config or SchedulerConfig()
        if vad and recognizer.sample_rate != SAMPLE_RATE:
            raise ValueError(f"voice activity is detected at {SAMPLE_RATE} Hz, and this model hears at {recognizer.sample_rate} Hz")
        self._recognizer, self._vad, self._observe = recognizer, vad, observe
        self._slots = Slots(recognizer, vad, buckets, self.config.max_streams)
        self._worker, self._own = worker or ThreadPoolExecutor(1, "riverrun-model"), worker is None
        self._times = StepTimes()
        self._saver = ThreadPoolExecutor(1, "riverrun-saver")  # starts its thread when there is something to save
        self._runtime = Runtime(self.config, recognizer, self._awake, self._release, self._slots.recorded)
        self._calibrates = calibrate and (self.config.utilisation != float("inf") or self._slots.recorded)
        self._streams: dict[LiveStream, None] = {}  # in the order in which they came
        self._ready: dict[LiveStream, None] = {}
        self._busy: set[LiveStream] = set()  # in the running tick: their slots are not free before it ends
        self._free: list[int] = []
        self._used = 1  # slot 0 only fills up buckets
        self._wake = asyncio.Event()
        self._late = -60.0  # when a stream was last so late that no more are taken
        self._behind = self._gave_up = -60.0  # when a stream was last too far behind, and when one was given up for it
        self._driver: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Measure the model, and start."""
        if self._calibrates:
            await asyncio.get_running_loop().run_in_executor(self._worker, self._calibrate)
        self._driver = asyncio.create_task(self._drive())
        self._driver.add_done_callback(self._stopped)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._driver:
            self._driver.cancel()
            await asyncio.gather(self._driver, return_exceptions=True)
        for stream in list(self._streams):
            stream.close()
        self._saver.shutdown()
        if self._own:
            self._worker.shutdown()

    @property
    def recognizer(self) -> Recognizer:
        """The model."""
        return self._recognizer

    @property
    def alive(self) -> bool:
        """Whether it steps; a defect may have stopped it."""
        return self._driver is not None and not self._driver.done()

    @property
    def bytes_per_stream(self) -> int:
        """State that a stream costs."""
        return self._slots.bytes_per_stream

    @property
    def vad(self) -> bool:
        """Whether its streams can go by voice activity."""
        return self._vad is not None

    @property
    def streams(self) -> int:
        """Streams that are open."""
        return len(self._streams)

    @property
    def capacity(self) -> int:
        """Streams that can be open at a time, as measured so far."""
        low, high = 0, self.config.max_streams
        limit = self.config.utilisation * self._recognizer.chunk / self._recognizer.sample_rate
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._times.predict(middle) <= limit else (low, middle - 1)
        return low

    def open(
        self, front: Front | None = None, save_every_s: float | None = None, saved: bytes | memoryview | None = None, vad: bool = False
    ) -> LiveStream:
        """Start a stream.

        Args:
            front: resampler, if the caller's audio has another rate.
            save_every_s: seconds of audio after which the stream puts out a `Saved`; None for never.
            saved: what such a `Saved` held, to go on there.
            vad: whether its endpoints go by voice activity.

        Raises:
            Refused: there are too many.
            StateError: ``saved`` is damaged or of another model, or of a stream with other voice activity detection.
            VadError: this scheduler or its model goes by no voice activity.
        """
        if len(self._streams) >= self.config.max_streams:
            raise Refused("full", f"{len(self._streams)} streams are open, which is all this server takes; try again later")
        if len(self._streams) >= self.capacity:
            raise Refused("busy", f"the machine is busy with {len(self._streams)} streams; try again later")
        if time.monotonic() - self._late < _CALM_S:
            raise Refused("busy", "the server is behind real time; try again later")
        reader = self._recognizer.reader()
        if vad and not (self._vad and isinstance(reader, VoicedReader)):
            raise VadError("this model's endpoints cannot go by voice activity")
        start, initial = Position(np.zeros(0, np.float32), 0, b""), self._slots.initial_with_vad if vad else self._slots.initial
        if saved is not None:
            start, front, initial = unpack(saved, reader, front, initial)
        slot = heapq.heappop(self._free) if self._free else self._used
        self._used += slot == self._used
        save_every = round(save_every_s * self._recognizer.sample_rate) if save_every_s else None
        stream = LiveStream(slot, reader, initial, front, save_every, self._runtime, start)
        self._streams[stream] = None
        self._awake(stream)
        return stream

    def _awake(self, stream: LiveStream) -> None:
        if stream not in self._ready and stream.ready:
            self._ready[stream] = None
            if len(self._ready) == 1 or self._complete:  # others change nothing about when the next tick is due
                self._wake.set()

    def _release(self, stream: LiveStream) -> None:
        self._streams.pop(stream, None)
        self._ready.pop(stream, None)
        if stream not in self._busy:
            heapq.heappush(self._free, stream.slot)

    def _stopped(self, driver: asyncio.Task[None]) -> None:
        if not driver.cancelled() and (error := driver.exception()):
            for stream in list(self._streams):
                stream.fail(StreamFailed("failed", "the scheduler has stopped; see the server's log"))
            logger.error("a scheduler has stopped", exc_info=error)

    async def _drive(self) -> None:
        while True:
            self._wake.clear()
            wait = self._wait()
            if wait is not None and wait <= 0:
                await self._tick()
                continue
            timer = None if wait is None else asyncio.get_running_loop().call_later(wait, self._wake.set)
            await self._wake.wait()
            if timer:
                timer.cancel()

    @property
    def _complete(self) -> bool:
        """Whether no one is left to wait for."""
        return len(self._ready) == len(self._streams) or len(self._ready) >= self.config.max_batch

    def _wait(self) -> float | None:
        """Seconds until the next tick is worth while; None if nothing is ready."""
        if not self._ready:
            return None
        if self._complete:
            return 0.0
        return min(stream.since for stream in self._ready) + self._patience - time.monotonic()

    @property
    def _patience(self) -> float:
        """Seconds that a chunk waits for others: where a step costs nearly the same for few and for many, few large ones pay."""
        if not self._slots.recorded or len(self._streams) < _MANY:
            return self.config.patience_s
        return max(self.config.patience_s, min(_PATIENCE * self._times.predict(1), _LONGEST_S))

    async def _tick(self) -> None:
        now = time.monotonic()
        chosen, due = self._choose(now)
        chunks = self._chunks(chosen)
        turns = [stream.turn(chunks) for stream in chosen]
        samples = [stream.samples for stream in chosen]
        self._busy = set(chosen)
        handed = time.monotonic()
        await asyncio.get_running_loop().run_in_executor(self._worker, self._slots.run, turns)
        self._busy = set()
        end = time.monotonic()
        if stepped := sum(not turn.ends for turn in turns):  # ends cost more, but a busy server has some in every tick
            self._times.observe(chunks * stepped, end - now - self._slots.spent.get("end", 0.0))
        packed = self._pack()
        for stream, turn, heard, spoken in zip(chosen, turns, samples, due, strict=True):
            self._settle(stream, turn, heard, end - spoken, packed.get(id(turn)))
        self._shed(end)
        if self._observe:
            spent = self._slots.spent
            wait = end - handed - sum(spent.values())
            spent = {"choose": handed - now, "wait": wait, **spent, "settle": time.monotonic() - end}
            self._observe(Tick(len(turns), chunks * len(turns), end - now, tuple(max(end - d, 0.0) for d in due), spent))

    def _pack(self) -> dict[int, Packed]:
        """Let the streams that are to be saved become bytes, on a thread of its own; by the identity of their turns."""
        packed: dict[int, Packed] = {}
        for turns, packing in self._slots.packing:
            future = asyncio.get_running_loop().run_in_executor(self._saver, packing.pack)
            future.add_done_callback(_unpacked)
            packed |= {id(turn): (future, place) for place, turn in enumerate(turns)}
        return packed

    def _settle(self, stream: LiveStream, turn: Turn, heard: int, lag: float, packed: Packed | None) -> None:
        if stream.over:  # left while its turn was taken
            heapq.heappush(self._free, stream.slot)
            return
        if turn.error is not None:
            logger.error("the model failed on a stream", exc_info=turn.error)
        if lag > self.config.late_s:
            self._late = time.monotonic()
        if lag > self.config.shed_s:
            self._behind = time.monotonic()
        stream.take(turn, heard, lag, packed)
        if not stream.ready:
            self._ready.pop(stream, None)

    def _shed(self, now: float) -> None:
        """Give up the stream that came last, as long as any is too far behind: each second one, lest all fall behind together."""
        if self.config.shed == "none" or now - self._behind > _CALM_S or now - self._gave_up < 1.0 or len(self._streams) < 2:
            return
        self._gave_up = now
        next(reversed(self._streams)).fail(StreamFailed("busy", "the server is too far behind real time; resume later or elsewhere"))

    def _choose(self, now: float) -> tuple[list[LiveStream], list[float]]:
        """Everyone who is due, earliest first, and of the others as many as cost little; and when each is due."""
        due = {stream: stream.due for stream in self._ready}
        order = sorted(due, key=due.__getitem__)[: self.config.max_batch]
        chosen = [stream for stream in order if due[stream] <= now + self.config.patience_s]
        for stream in order[len(chosen) :]:
            if chosen and self._times.predict(len(chosen) + 1) > self.config.batch_s:
                break
            chosen.append(stream)
        return chosen, [due[stream] for stream in chosen]

    def _chunks(self, chosen: Sequence[LiveStream]) -> int:
        """Chunks that each takes: more than one where all have more and the step stays short."""
        if self._slots.recorded and len(chosen) > _HURRYING:
            return 1
        ready = min(min(stream.ready for stream in chosen), CHUNKS_PER_STEP)
        counts = [n for n in _HURRIED if n <= ready] if self._slots.recorded else [1 << i for i in range(ready.bit_length())]
        return max((n for n in counts if self._times.predict(n * len(chosen)) <= self.config.batch_s), default=1)

    def _calibrate(self) -> None:
        """Time steps of more and more streams, until they take the time that they may; where steps are recorded, record them all."""
        recognizer, recorded = self._recognizer, self._slots.recorded
        limit = self.config.utilisation * recognizer.chunk / recognizer.sample_rate
        most = min(self.config.max_streams, self.config.max_batch)
        noise = np.random.default_rng(0).normal(0, 0.01, recognizer.chunk + recognizer.delay).astype(np.float32)
        chunk, first = noise[: recognizer.chunk], noise[: recognizer.delay] if recorded else noise
        for streams in [*(n for n in self._slots.batches if n < most), most]:
            self._time(streams, first, begins=True)  # no chunk is decided before the delay behind it is heard, too
            if recorded:  # the first of a shape is like no other, and the second is recorded
                self._time(streams, chunk)
                self._time(streams, chunk)
            seconds = min(self._time(streams, chunk), self._time(streams, chunk))
            if recorded and streams <= TOGETHER[-1]:
                self._time(streams, chunk, saves=True)
                for keeps in (True, False, False):
                    self._time(streams, noise, begins=True, ends=True, keeps=keeps)
            if recorded and streams <= _HURRYING:
                for hurried in [np.tile(chunk, n) for n in _HURRIED[1:] for _ in range(3)]:
                    self._time(streams, hurried)
            self._times.calibrate(streams, seconds)
            if seconds > limit and not recorded:
                break
        self._slots.settle()

    def _time(
        self, streams: int, audio: Audio, begins: bool = False, ends: bool = False, keeps: bool = False, saves: bool = False
    ) -> float:
        """Seconds of a step of so many streams."""
        initial, position = self._slots.initial if begins else None, Position(audio[:0], 0, b"") if saves else None
        readers = [self._recognizer.reader() for _ in range(streams)]
        turns = [Turn(i, reader, [audio], initial=initial, ends=ends, keeps=keeps, save=position) for i, reader in enumerate(readers, 1)]
        began = time.monotonic()
        self._slots.run(turns)
        return time.monotonic() - began


def _unpacked(packed: asyncio.Future[list[memoryview]]) -> None:
    """Tell why streams were not saved; they go on, and their clients keep what was not acknowledged."""
    if not packed.cancelled() and (error := packed.exception()):
        logger.error("streams could not be saved", exc_info=error)


__all__ = ["Refused", "Scheduler", "SchedulerConfig", "StreamFailed", "Tick"]
