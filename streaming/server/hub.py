"""What the server's connections share: models under their schedulers, tokens, snapshots, metrics."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from itertools import count
from typing import Any, Protocol, Self

from ..recognizer import Front
from ..scheduler import Refused, Scheduler
from ..vad import SAMPLE_RATE, SileroVad, VadError, VoicedReader
from .config import Engine, ServedModel, ServerConfig, Variant
from .metrics import Metrics
from .protocol import ProtocolError
from .store import MemoryStore, SessionStore
from .tokens import Tokens

#: Seconds between looks at the event loop, and the part of the connections whose time limits are looked at each time.
_WATCH_S, _WATCH_SHARE = 0.1, 4
#: Part of the time that the event loop may work, by a running mean with this weight of the last look: the model's thread needs Python, too.
_BUSY, _MEMORY = 0.6, 0.1

logger = logging.getLogger("riverrun.server")


def log(event: str, **facts: Any) -> None:
    """One line of the log, as JSON; never what was said."""
    logger.info("%s", json.dumps({"time": round(time.time(), 3), "event": event, **facts}))


class Abortable(Protocol):
    """A connection that can be ended from outside."""

    def abort(self, code: str, message: str) -> None:
        """End it with an error."""

    def watch(self, now: float) -> None:
        """End it if its time is up."""


class Hub:
    """An asynchronous context manager: every model under every latency is measured at the start, so that no live stream waits for it.

    Args:
        engine: what is served.
        config: limits.
        tokens: who may use it; everyone if None.
        store: of snapshots; this process's memory if None.
    """

    def __init__(self, engine: Engine, config: ServerConfig, tokens: Tokens | None = None, store: SessionStore | None = None):
        self.engine, self.config = engine, config
        self.tokens, self.store, self.metrics = tokens or Tokens(), store or MemoryStore(), Metrics()
        self.draining = self.ready = False
        self.late_s = 0.0  #: by which the event loop is late: audio waits so long before a scheduler even sees it
        self.busy = 0.0  #: part of the time that the event loop's thread works, lately
        self.connections: set[Abortable] = set()
        self.by_token: dict[str, Abortable] = {}
        self.vad: SileroVad | None = None  #: voice activity detection, if it is installed
        self._schedulers: dict[tuple[str, Variant], Scheduler] = {}
        self._asked: dict[tuple[str, Variant], AsyncExitStack] = {}  # schedulers of clients' choice, the oldest first
        self._starting = asyncio.Lock()
        self._resources = AsyncExitStack()
        self._worker = ThreadPoolExecutor(1, "riverrun-model")

    async def __aenter__(self) -> Self:
        """Start the models."""
        self._resources.callback(self._worker.shutdown)
        self.metrics.watch_thread("events", threading.get_ident())
        self.metrics.watch_thread("models", await asyncio.get_running_loop().run_in_executor(self._worker, threading.get_ident))
        self._resources.push_async_callback(self.store.close)
        try:
            self.vad = SileroVad()
        except VadError:
            if self.config.vad:
                raise
        for model in self.engine.models:
            for latency_ms in dict.fromkeys((model.default_latency_ms, *model.latencies_ms)):
                await self._start(model, model.variant(latency_ms), self._resources, calibrate=True)
        watch = asyncio.create_task(self._watch())
        self._resources.callback(watch.cancel)
        self.ready = True
        return self

    async def __aexit__(self, *_: object) -> None:
        self.ready = False
        for resources in self._asked.values():
            await resources.aclose()
        await self._resources.aclose()

    def choose(self, name: str | None, latency_ms: int | None) -> tuple[ServedModel, Variant]:
        """A model, and its variant for a latency.

        Raises:
            ProtocolError: "unsupported".
        """
        try:
            model = self.engine.model(name)
        except KeyError:
            raise ProtocolError("unsupported", f"no such model; choose from {', '.join(self.engine.names)}") from None
        if latency_ms is not None and latency_ms not in model.latencies_ms:
            raise ProtocolError("unsupported", f"no latency of {latency_ms} ms; choose from {', '.join(map(str, model.latencies_ms))}")
        return model, model.variant(latency_ms or model.default_latency_ms)

    async def _start(self, model: ServedModel, variant: Variant, resources: AsyncExitStack, calibrate: bool) -> Scheduler:
        recognizer = await asyncio.get_running_loop().run_in_executor(self._worker, model.recognizer, variant)
        voiced = recognizer.sample_rate == SAMPLE_RATE and isinstance(recognizer.reader(), VoicedReader)
        vad = self.vad if voiced else None
        scheduler = Scheduler(recognizer, self.config.scheduler, self._worker, vad, observe=self.metrics.tick, calibrate=calibrate)
        self._schedulers[model.name, variant] = await resources.enter_async_context(scheduler)
        self.metrics.state.labels(model.name, variant.latency_ms).set(scheduler.bytes_per_stream)
        log("model", model=model.name, **variant._asdict(), capacity=scheduler.capacity)
        return scheduler

    async def scheduler(self, model: ServedModel, variant: Variant) -> Scheduler:
        """The scheduler of a model under one of its variants, started if need be.

        Raises:
            Refused: the server is about to stop, or has no room for one more stream.
            ProtocolError: the model cannot follow the policy.
        """
        if self.draining:
            raise Refused("draining", "the server is about to stop; connect again to reach another")
        async with self._starting:
            scheduler = self._schedulers.get((model.name, variant)) or await self._ask(model, variant)
        self._room(scheduler)
        return scheduler

    async def _ask(self, model: ServedModel, variant: Variant) -> Scheduler:
        """Start a scheduler of a client's choice, in place of one that no one uses if there are too many."""
        if len(self._asked) >= self.config.variants:
            unused = next((key for key in self._asked if not self._schedulers[key].streams), None)
            if unused is None:
                raise Refused("full", "too many policies are in use; choose another, or try again later")
            del self._schedulers[unused]
            await self._asked.pop(unused).aclose()
        resources = AsyncExitStack()
        try:
            scheduler = await self._start(model, variant, resources, calibrate=False)
        except ValueError as error:
            raise ProtocolError("unsupported", str(error)) from None
        self._asked[model.name, variant] = resources
        return scheduler

    @property
    def healthy(self) -> bool:
        """Whether every scheduler steps."""
        return all(scheduler.alive for scheduler in self._schedulers.values())

    @property
    def streams(self) -> int:
        """Streams that are open, of all models."""
        return sum(scheduler.streams for scheduler in self._schedulers.values())

    @property
    def capacity(self) -> int | None:
        """Streams that the default model has room for by itself, as measured so far; None before it has started."""
        model = self.engine.models[0]
        scheduler = self._schedulers.get((model.name, model.variant(model.default_latency_ms)))
        return scheduler.capacity if scheduler else None

    def _room(self, scheduler: Scheduler) -> None:
        """Schedulers share one machine: what one of them has room for, all of them together may not."""
        if self.late_s > self.config.scheduler.late_s or (self.busy > _BUSY and self.config.scheduler.utilisation != float("inf")):
            raise Refused("busy", "the server is behind real time; try again later")
        if self.streams >= self.config.scheduler.max_streams:
            raise Refused("full", f"{self.streams} streams are open, which is all this server takes; try again later")
        load = sum(s.streams / max(s.capacity, 1) for s in self._schedulers.values())
        if load + 1 / max(scheduler.capacity, 1) > 1 + 1e-9:
            raise Refused("busy", f"the machine is busy with {self.streams} streams; try again later")

    async def _watch(self) -> None:
        """Look after connections' time limits, and after the time that this event loop takes to come to anything."""
        for turn in count():
            before, worked = time.monotonic(), time.thread_time()
            await asyncio.sleep(_WATCH_S)
            now = time.monotonic()
            self.late_s = max(now - before - _WATCH_S, 0.0)
            self.busy += _MEMORY * ((time.thread_time() - worked) / (now - before) - self.busy)
            self.metrics.loop.observe(self.late_s)
            self._watch_connections(now, turn % _WATCH_SHARE)

    def _watch_connections(self, now: float, share: int) -> None:  # by itself, lest a variable hold the last of them
        for connection in list(self.connections)[share::_WATCH_SHARE]:
            connection.watch(now)

    def front(self, sample_rate: int, wanted: int) -> Front | None:
        """A resampler, where one is needed.

        Raises:
            ProtocolError: there is none.
        """
        if sample_rate == wanted:
            return None
        if self.engine.resampler is None:
            raise ProtocolError("unsupported", f"audio must come at {wanted} Hz")
        return self.engine.resampler(sample_rate, wanted)

    async def drain(self) -> None:
        """Take no more streams, let the others come to their end for a while, and send the rest elsewhere."""
        self.draining, self.ready = True, False
        log("draining", streams=self.streams)
        until = time.monotonic() + self.config.drain_s
        while self.streams and time.monotonic() < until:
            await asyncio.sleep(0.05)
        for connection in list(self.connections):
            connection.abort("draining", "the server stops; resume elsewhere")
        until = time.monotonic() + 2.0
        while self.connections and time.monotonic() < until:
            await asyncio.sleep(0.05)
