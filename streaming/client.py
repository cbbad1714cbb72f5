"""Clients of a riverrun server that lose nothing when the connection breaks, or the server does.

A client keeps the audio that the server has not acknowledged. When the connection breaks it connects again, resumes the
stream where the server's snapshot stands, and sends the rest once more; final text that it has already given is not given
twice. Needs the extra ``serve``.
"""

from __future__ import annotations

import asyncio
import queue
import random
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from .events import Event
from .pipeline import Samples, as_float
from .scheduler import Lag
from .server import protocol as p

T = TypeVar("T")

#: Errors that another attempt may not meet.
_PASSING = frozenset({"full", "busy", "draining", "limit", "resumed"})
_LONGEST_PAUSE = 2.0  # seconds between attempts to connect


class ClientError(ValueError):
    """The server cannot be used, or has ended the stream; ``code`` is that of the protocol's error, or "connection"."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


@dataclass
class _Audio:
    start: int  # sample of the stream
    data: bytes


@dataclass
class _Control:
    at: int  # samples before it
    message: p.Flush | p.Finish


class AsyncClient:
    """One stream to a server; an asynchronous context manager. Iterate over it for events (and `Lag`).

    Args:
        url: ``ws://…`` or ``wss://…``, ending in ``/v1/stream``.
        sample_rate: of the audio, in Hz.
        token: bearer token.
        retry_s: how long to try to connect again before giving up.
        keep_s: seconds of unacknowledged audio beyond which `send` waits.
        stall_s: silence of the server, with audio unanswered, after which the connection counts as broken.
        start: further fields of the protocol's start message, such as ``model`` and ``latency_ms``.
    """

    def __init__(
        self,
        url: str,
        sample_rate: int = 16000,
        *,
        token: str | None = None,
        retry_s: float = 30.0,
        keep_s: float = 60.0,
        stall_s: float = 30.0,
        **start: Any,
    ):
        self._url, self._token = url, token
        self._retry_s, self._keep, self._stall_s = retry_s, round(keep_s * sample_rate), stall_s
        self._start = p.Start(sample_rate=sample_rate, **start)
        self._items: dict[int, _Audio | _Control] = {}  # not yet acknowledged or answered, in order
        self._next, self._samples, self._kept = 0, 0, 0
        self._seq = 0
        self._resume: str | None = None
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._flushes: dict[str, asyncio.Future[None]] = {}
        self._events: asyncio.Queue[Event | Lag | None] = asyncio.Queue()
        self._error: ClientError | None = None
        self._ended = False
        self._runner: asyncio.Task[None] | None = None
        self.capabilities: p.Capabilities | None = None  #: of the server's model, once connected
        self.reconnects = 0  #: connections that were lost

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            ClientError: no server, or it refuses.
        """
        connected: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._runner = asyncio.create_task(self._run(connected))
        await asyncio.wait({connected, self._runner}, return_when=asyncio.FIRST_COMPLETED)
        if self._error:
            raise self._error
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)

    async def send(self, samples: Samples) -> None:
        """Send mono audio (n,), float32 in [-1, 1] or int16; waits when too much of it is unacknowledged.

        Raises:
            ClientError: the stream has failed.
            ValueError: not mono audio, not finite, or the stream has ended.
        """
        audio = as_float(samples)
        while self._kept > self._keep and not self._error:
            self._room.clear()
            await self._room.wait()
        self._check()
        if self._start.encoding == "pcm_s16le":
            data = (np.clip(audio, -1, 32767 / 32768) * 32768).round().astype("<i2").tobytes()
        else:
            data = audio.astype("<f4").tobytes()
        self._put(_Audio(self._samples, data))
        self._samples += len(audio)
        self._kept += len(audio)

    async def flush(self) -> None:
        """Wait until everything sent so far is decoded; its text is the last partial event.

        Raises:
            ClientError: the stream has failed.
        """
        self._check()
        name = str(self._next)
        answer = self._flushes[name] = asyncio.get_running_loop().create_future()
        self._put(_Control(self._samples, p.Flush(id=name)))
        await answer

    async def finish(self) -> None:
        """End the audio; the last events follow, and then the iteration ends."""
        self._check()
        self._ended = True
        self._put(_Control(self._samples, p.Finish()))

    async def __aiter__(self) -> AsyncIterator[Event | Lag]:
        """Events as they come.

        Raises:
            ClientError: the stream has failed.
        """
        while (event := await self._events.get()) is not None:
            yield event
        self._events.put_nowait(None)
        if self._error:
            raise self._error

    def _check(self) -> None:
        if self._error:
            raise self._error
        if self._ended:
            raise ValueError("the stream has ended: start a new one")

    def _put(self, item: _Audio | _Control) -> None:
        self._items[self._next] = item
        self._next += 1
        self._changed.set()

    async def _run(self, connected: asyncio.Future[None]) -> None:
        """Connections, one after another, until one comes to the end."""
        pause, until = 0.05, time.monotonic() + self._retry_s
        try:
            while True:
                try:
                    async with connect(self._url, **self._options()) as socket:
                        await self._greet(socket)
                        if not connected.done():
                            connected.set_result(None)
                        pause = 0.05
                        if await self._converse(socket):
                            return
                except ClientError as error:
                    if error.code not in _PASSING:
                        raise
                    problem: Exception = error
                except InvalidStatus as error:
                    if error.response.status_code < 500:
                        raise ClientError("unauthorized", f"the server refuses: HTTP {error.response.status_code}") from None
                    problem = error
                except InvalidURI as error:
                    raise ClientError("connection", f"{error}; give ws://HOST:PORT/v1/stream") from None
                except (OSError, ConnectionClosed, InvalidHandshake, TimeoutError) as error:
                    problem = error
                if pause == 0.05:
                    until = time.monotonic() + self._retry_s
                if time.monotonic() > until:
                    code = getattr(problem, "code", None)
                    raise ClientError(code if isinstance(code, str) else "connection", f"no connection to {self._url}: {problem}") from None
                self.reconnects += 1
                await asyncio.sleep(pause * (0.5 + random.random()))  # noqa: S311  # no secret
                pause = min(2 * pause, _LONGEST_PAUSE)
        except ClientError as error:
            self._error = error
        finally:
            self._finish()

    def _options(self) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        limits = {"ping_interval": None, "max_size": 1 << 24, "close_timeout": 2}
        return {"additional_headers": headers, "compression": None, "proxy": None, **limits}

    async def _greet(self, socket: ClientConnection) -> None:
        resume = p.Resume(token=self._resume, seq=self._seq) if self._resume else None
        await socket.send(self._start.model_copy(update={"resume": resume}).model_dump_json(exclude_none=True))
        async with asyncio.timeout(self._stall_s):
            ready = p.parse_server(await socket.recv())
        if isinstance(ready, p.Error):
            raise ClientError(ready.code, ready.message)
        if not isinstance(ready, p.Ready):
            raise ClientError("connection", f"the server began with {ready.type}")
        self._resume, self.capabilities = ready.resume_token, ready.capabilities
        self._acknowledge(ready.audio_ms)

    async def _converse(self, socket: ClientConnection) -> bool:
        """Send and receive; True when all was said."""
        writer = asyncio.create_task(self._write(socket))
        reader = asyncio.create_task(self._read(socket))
        try:
            await asyncio.wait({writer, reader}, return_when=asyncio.FIRST_COMPLETED)
            if writer.done() and not reader.done():  # the server may have said why it hung up
                await asyncio.wait({reader}, timeout=2.0)
            if reader.done():
                return reader.result()
            writer.result()
            return False
        finally:
            for task in (writer, reader):
                task.cancel()
            await asyncio.gather(writer, reader, return_exceptions=True)

    async def _write(self, socket: ClientConnection) -> None:
        number = next(iter(self._items), self._next)
        while True:
            self._changed.clear()
            while number < self._next:
                if item := self._items.get(number):
                    await socket.send(item.data if isinstance(item, _Audio) else item.message.model_dump_json())
                number += 1
            await self._changed.wait()

    async def _read(self, socket: ClientConnection) -> bool:
        while True:
            async with asyncio.timeout(self._stall_s if self._items else None):
                message = p.parse_server(await socket.recv())
            if isinstance(message, p.PartialMessage):
                self._events.put_nowait(p.event_of(message))
            elif isinstance(message, p.FinalMessage | p.EndpointMessage):
                if message.seq == self._seq + 1:
                    self._seq = message.seq
                    self._events.put_nowait(p.event_of(message))
                elif message.seq > self._seq:
                    raise ClientError("resume-gap", f"final messages {self._seq + 1} to {message.seq - 1} did not arrive")
            elif isinstance(message, p.Ack):
                self._acknowledge(message.audio_ms)
            elif isinstance(message, p.FlushedMessage):
                self._answered(message.id)
            elif isinstance(message, p.LagMessage):
                self._events.put_nowait(Lag(message.ms / 1000))
            elif isinstance(message, p.Error):
                raise ClientError(message.code, message.message)
            elif isinstance(message, p.Finished):
                return True

    def _acknowledge(self, audio_ms: float) -> None:
        """Forget the audio before a position."""
        samples = round(audio_ms * self._start.sample_rate / 1000)
        size = 2 if self._start.encoding == "pcm_s16le" else 4
        for number, item in list(self._items.items()):
            if isinstance(item, _Audio):
                if item.start >= samples:
                    break
                known = min(samples - item.start, len(item.data) // size)
                self._kept -= known
                self._items[number] = item = _Audio(item.start + known, item.data[known * size :])
                if not item.data:
                    del self._items[number]
        self._room.set()

    def _answered(self, name: str) -> None:
        if name in self._flushes:
            self._flushes.pop(name).set_result(None)
            self._items.pop(int(name), None)

    def _finish(self) -> None:
        self._items.clear()
        self._kept = 0
        self._room.set()
        for answer in self._flushes.values():
            if not answer.done():
                answer.set_exception(self._error or ClientError("connection", "the client was closed"))
                answer.exception()  # seen: the caller may have left
        self._events.put_nowait(None)


class Client:
    """`AsyncClient` for programs without asyncio: a context manager, whose methods block, to be iterated over for events."""

    def __init__(self, url: str, sample_rate: int = 16000, **options: Any):
        self._arguments: tuple[Any, ...] = (url, sample_rate)
        self._options = options
        self._said: queue.SimpleQueue[Event | Lag | BaseException | None] = queue.SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="riverrun-client", daemon=True)

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            ClientError: no server, or it refuses.
        """
        self._thread.start()
        try:
            self._client = self._do(self._open())
        except BaseException:
            self._stop()
            raise
        self._listener = asyncio.run_coroutine_threadsafe(self._listen(), self._loop)
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._client.__aexit__())
        with suppress(Exception):
            self._listener.result()
        self._stop()

    def send(self, samples: Samples) -> None:
        """See `AsyncClient.send`."""
        self._do(self._client.send(samples))

    def flush(self) -> None:
        """See `AsyncClient.flush`."""
        self._do(self._client.flush())

    def finish(self) -> None:
        """See `AsyncClient.finish`."""
        self._do(self._client.finish())

    def __iter__(self) -> Iterator[Event | Lag]:
        """See `AsyncClient.__aiter__`."""
        while (item := self._said.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
        self._said.put(None)

    def pending(self) -> list[Event | Lag]:
        """Events that have come and were not yet looked at, without waiting."""
        events: list[Event | Lag] = []
        while not self._said.empty():
            item = self._said.get()
            if item is None or isinstance(item, BaseException):
                self._said.put(item)
                break
            events.append(item)
        return events

    async def _open(self) -> AsyncClient:
        return await AsyncClient(*self._arguments, **self._options).__aenter__()

    async def _listen(self) -> None:
        try:
            async for event in self._client:
                self._said.put(event)
        except ClientError as error:
            self._said.put(error)
        self._said.put(None)

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


__all__ = ["AsyncClient", "Client", "ClientError"]
