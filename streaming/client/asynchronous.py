"""The client for asyncio."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import Any, Self

from numpy.typing import ArrayLike
from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from ..events import Event, Lag
from ..server import protocol as p
from .errors import ClientError
from .outbox import Outbox
from .samples import encode, mono

#: Errors that another attempt may not meet.
_PASSING = frozenset({"full", "busy", "draining", "limit", "resumed"})
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 2.0  # seconds between attempts to connect


class AsyncClient:
    """One stream to a server; an asynchronous context manager. Iterate over it for events (and `Lag`).

    Args:
        url: ``ws://…`` or ``wss://…``, ending in ``/v1/stream``.
        sample_rate: of the audio, in Hz.
        token: bearer token.
        retry_s: how long to try to connect again before giving up.
        keep_s: seconds of unacknowledged audio beyond which `send` waits.
        stall_s: silence of the server, with audio unanswered, after which the connection counts as broken.
        start: further fields of the protocol's start message: ``model``, ``latency_ms``, ``encoding`` (``pcm_s16le`` or ``pcm_f32le``),
            ``language``, ``vad``; for translation ``translate_to``, ``policy`` and ``policy_options``.

    Attributes:
        capabilities: of the server's model, once connected.
        reconnects: connections that were lost.

    Raises:
        ClientError: such a field does not exist, or cannot be that.
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
        try:
            self._start = p.Start(sample_rate=sample_rate, **start)
        except ValidationError as error:
            wrong = error.errors(include_url=False)[0]
            raise ClientError("bad-message", f"{'.'.join(map(str, wrong['loc']))}: {wrong['msg']}") from None
        if self._start.encoding not in ("pcm_s16le", "pcm_f32le"):
            raise ClientError("unsupported", f"this client does not encode {self._start.encoding}; choose pcm_s16le or pcm_f32le")
        self._outbox = Outbox(2 if self._start.encoding == "pcm_s16le" else 4)
        self._stall: asyncio.Timeout | None = None  # of the answer that is awaited
        self._seq = 0
        self._resume: str | None = None
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._flushes: dict[str, asyncio.Future[None]] = {}
        self._events: asyncio.Queue[Event | Lag | None] = asyncio.Queue()
        self._error: ClientError | None = None
        self._ended = False
        self._runner: asyncio.Task[None] | None = None
        self.capabilities: p.Capabilities | None = None
        self.reconnects = 0

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

    async def hear(self, blocks: Iterable[ArrayLike] | AsyncIterable[ArrayLike]) -> AsyncIterator[Event | Lag]:
        """Send blocks as they come, then finish; gives the events meanwhile, and those to the end.

        Raises:
            ClientError: the stream has failed.
            ValueError: a block that `send` does not take.
        """
        sender = asyncio.create_task(self._send_all(blocks))
        taker: asyncio.Task[Event | Lag | None] | None = None
        try:
            while True:
                taker = asyncio.create_task(self._take())
                await asyncio.wait({taker} if sender.done() else {taker, sender}, return_when=asyncio.FIRST_COMPLETED)
                if sender.done():
                    sender.result()  # nothing more comes of a stream whose audio has failed
                if (event := await taker) is None:
                    return
                yield event
        finally:
            for task in filter(None, (taker, sender)):
                task.cancel()
            await asyncio.gather(*filter(None, (taker, sender)), return_exceptions=True)

    async def _send_all(self, blocks: Iterable[ArrayLike] | AsyncIterable[ArrayLike]) -> None:
        if isinstance(blocks, AsyncIterable):
            async for block in blocks:
                await self.send(block)
        else:
            for block in blocks:
                await self.send(block)
                await asyncio.sleep(0)  # a ready iterable would let nothing else run
        await self.finish()

    async def send(self, samples: ArrayLike) -> None:
        """Send audio (n,) or (n, channels), float in [-1, 1] or integers; waits when too much of it is unacknowledged.

        Raises:
            ClientError: the stream has failed.
            ValueError: not such audio, not finite, or the stream has ended.
        """
        data = encode(mono(samples), self._start.encoding)
        while self._outbox.kept > self._keep and not self._error:
            self._room.clear()
            await self._room.wait()
        self._check()
        self._outbox.put_audio(data)
        self._wake()

    async def flush(self) -> None:
        """Wait until everything sent so far is decoded; its text is the last partial event.

        Raises:
            ClientError: the stream has failed.
        """
        self._check()
        name = str(self._outbox.next)
        answer = self._flushes[name] = asyncio.get_running_loop().create_future()
        self._outbox.put_control(p.Flush(id=name))
        self._wake()
        await answer

    async def finish(self) -> None:
        """End the audio; the last events follow, and then the iteration ends."""
        self._check()
        self._ended = True
        self._outbox.put_control(p.Finish())
        self._wake()

    async def __aiter__(self) -> AsyncIterator[Event | Lag]:
        """Events as they come.

        Raises:
            ClientError: the stream has failed.
        """
        while (event := await self._take()) is not None:
            yield event

    async def _take(self) -> Event | Lag | None:
        """The next event; None at the end, however often it is asked for."""
        if (event := await self._events.get()) is None:
            self._events.put_nowait(None)
            if self._error:
                raise self._error
        return event

    def _check(self) -> None:
        if self._error:
            raise self._error
        if self._ended:
            raise ValueError("the stream has ended: start a new one")

    async def _run(self, connected: asyncio.Future[None]) -> None:
        """Connections, one after another, until one comes to the end."""
        pause, until = _FIRST_PAUSE, time.monotonic() + self._retry_s
        try:
            while True:
                try:
                    async with connect(self._url, **self._options()) as socket:
                        await self._greet(socket)
                        if not connected.done():
                            connected.set_result(None)
                        pause = _FIRST_PAUSE
                        if await self._converse(socket):
                            return
                        problem: Exception = ClientError("connection", "it was closed")
                except Exception as error:
                    problem = self._passing(error)
                if pause == _FIRST_PAUSE:
                    until = time.monotonic() + self._retry_s
                if time.monotonic() > until:
                    code = problem.code if isinstance(problem, ClientError) else "connection"
                    raise ClientError(code, f"no connection to {self._url}: {problem}")
                self.reconnects += 1
                await asyncio.sleep(pause * (0.5 + random.random()))  # noqa: S311  # no secret
                pause = min(2 * pause, _LONGEST_PAUSE)
        except ClientError as error:
            self._error = error
        finally:
            self._finish()

    def _passing(self, error: Exception) -> Exception:
        """The error, if another attempt may not meet it.

        Raises:
            ClientError: it would.
        """
        if isinstance(error, ClientError):
            if error.code == "resume-unknown" and not self._outbox.acknowledged:
                self._resume = None  # nothing is lost by starting anew: all the audio is here
            elif error.code not in _PASSING:
                raise error
            return error
        if isinstance(error, InvalidStatus) and error.response.status_code < 500:
            raise ClientError("unauthorized", f"the server refuses: HTTP {error.response.status_code}") from None
        if isinstance(error, InvalidURI):
            raise ClientError("connection", f"{error}; give ws://HOST:PORT/v1/stream") from None
        if isinstance(error, OSError | ConnectionClosed | InvalidHandshake):  # TimeoutError is an OSError
            return error
        raise error

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
            self._stall = None
            for task in (writer, reader):
                task.cancel()
            await asyncio.gather(writer, reader, return_exceptions=True)

    async def _write(self, socket: ClientConnection) -> None:
        number = self._outbox.first
        while True:
            self._changed.clear()
            while number < self._outbox.next:
                if (item := self._outbox.get(number)) is not None:
                    await socket.send(item)
                number += 1
            await self._changed.wait()

    def _wake(self) -> None:
        """Something is to be sent, and to be answered in time."""
        self._changed.set()
        if self._stall and self._stall.when() is None:
            self._stall.reschedule(asyncio.get_running_loop().time() + self._stall_s)

    async def _read(self, socket: ClientConnection) -> bool:
        while True:
            try:
                async with asyncio.timeout(self._stall_s if self._outbox else None) as self._stall:
                    message = p.parse_server(await socket.recv())
            finally:
                self._stall = None  # over, however it ended: who sends now must not move it
            if isinstance(message, p.Error):
                raise ClientError(message.code, message.message)
            if isinstance(message, p.Finished):
                return True
            self._hear(message)

    def _hear(self, message: p.Message) -> None:
        if isinstance(message, p.PartialMessage):
            self._events.put_nowait(p.event_of(message))
        elif isinstance(message, p.FinalMessage | p.EndpointMessage):
            if message.seq > self._seq + 1:
                raise ClientError("resume-gap", f"final messages {self._seq + 1} to {message.seq - 1} did not arrive")
            if message.seq > self._seq:
                self._seq = message.seq
                self._events.put_nowait(p.event_of(message))
        elif isinstance(message, p.Ack):
            self._acknowledge(message.audio_ms)
        elif isinstance(message, p.FlushedMessage) and message.id in self._flushes:
            self._flushes.pop(message.id).set_result(None)
            self._outbox.answered(int(message.id))
        elif isinstance(message, p.LagMessage):
            self._events.put_nowait(Lag(message.ms / 1000))

    def _acknowledge(self, audio_ms: float) -> None:
        self._outbox.acknowledge(round(audio_ms * self._start.sample_rate / 1000))
        self._room.set()

    def _finish(self) -> None:
        self._outbox.clear()
        self._room.set()
        for answer in self._flushes.values():
            if not answer.done():
                answer.set_exception(self._error or ClientError("connection", "the client was closed"))
                answer.exception()  # seen: the caller may have left
        self._events.put_nowait(None)
