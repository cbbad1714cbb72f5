"""A WebSocket that carries one stream: limits, time-outs and endings that every protocol shares."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from abc import ABC, abstractmethod
from contextlib import suppress

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from ..pipeline import Samples
from ..scheduler import LiveStream, Refused, StreamFailed
from ..scheduler.live import Output
from .hub import Hub, log
from .multiplex import WANT
from .opus import OpusDecoder, OpusError
from .protocol import ProtocolError

logger = logging.getLogger(__name__)

#: WebSocket close codes (RFC 6455 and its registry) of errors; any other is a policy violation.
_CLOSE = {"full": 1013, "busy": 1013, "limit": 1013, "draining": 1012, "failed": 1011, "too-large": 1009}
#: Seconds of work on one connection's messages after which others have a turn: who sends faster than speech must not make them late.
_TURN_S = 0.005
_TYPES = {"pcm_s16le": ("<i2", 2), "pcm_f32le": ("<f4", 4)}


class Connection(ABC):
    """One stream of one client.

    Args:
        socket: not yet accepted.
        hub: of the server.
        token: that the client showed.
        subprotocol: to accept with.
    """

    kind: str
    encoding = "pcm_f32le"
    sample_rate = 16000
    opus: OpusDecoder | None = None  #: for a stream so encoded

    def __init__(self, socket: WebSocket, hub: Hub, token: str | None, subprotocol: str | None = None):
        self.socket, self.hub, self.token = socket, hub, token
        self.finishing = False
        self.base = 0  # samples of the stream's audio that earlier connections brought
        self._subprotocol = subprotocol
        self._aborted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._stream: LiveStream | None = None
        self._counted = 0  # of its samples, by the metrics
        self._bytes, self._span = 0, 0.0  # of audio so far; seconds that the last of it was held back by an acceptor
        self._heard = time.monotonic()  # when audio came last; infinite while it waits for room, which is not the client's fault
        self._sending = 0.0  # since when a message waits to be taken; 0 if none does

    @abstractmethod
    async def begin(self) -> LiveStream:
        """Open the stream, and greet the client."""

    @abstractmethod
    async def hear(self, stream: LiveStream, text: str) -> None:
        """Take a text message."""

    @abstractmethod
    async def say(self, item: Output) -> None:
        """Tell the client what the stream says."""

    @abstractmethod
    async def end(self) -> None:
        """Tell the client that everything was said."""

    @abstractmethod
    async def refuse(self, code: str, message: str) -> None:
        """Tell the client of an error."""

    async def left(self, code: int) -> None:
        """The client has gone, with a WebSocket close code."""

    def abort(self, code: str, message: str) -> None:
        """End it from outside, with an error."""
        if not self._aborted.done():
            self._aborted.set_exception(ProtocolError(code, message))

    def watch(self, now: float) -> None:
        """End it if its time is up; ``now`` is the monotonic clock. To look now and then costs less than a timer for each message."""
        config = self.hub.config
        self._count()
        if self._sending and now - self._sending > config.send_s:
            self.abort("slow-reader", "events are not read: read them as they come")
        elif not self.finishing and now - self._heard > config.idle_s:
            self.abort("idle", f"no audio for {config.idle_s:g} s")

    def _count(self) -> None:
        if self._stream and self._stream.samples > self._counted:
            self.hub.metrics.audio.inc((self._stream.samples - self._counted) / self.sample_rate)
            self._counted = self._stream.samples

    async def run(self) -> None:
        """Serve the client to the end; every error stays here."""
        await self.socket.accept(self._subprotocol)
        hub, began, code, close = self.hub, time.monotonic(), "finished", 1000
        hub.connections.add(self)
        try:
            with hub.tokens.stream(self.token):
                self._stream = stream = await self.begin()
                hub.metrics.opened.labels(self.kind).inc()
                with hub.metrics.streams.labels(self.kind).track_inprogress():
                    await self._serve(stream)
        except (ProtocolError, Refused, StreamFailed) as error:
            code, close = error.code, _CLOSE.get(error.code, 1008)
            with suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
                await asyncio.wait_for(self.refuse(error.code, str(error)), 1.0)
        except WebSocketDisconnect as gone:
            code = code if self.finishing and gone.code == 1000 else "disconnected"
            await self.left(gone.code)
        except Exception:  # a defect: told in the log and to the client, it ends this stream and touches no other
            code, close = "failed", _CLOSE["failed"]
            logger.exception("a stream failed")
            with suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
                await asyncio.wait_for(self.refuse(code, "the server failed on this stream; resume it"), 1.0)
        finally:
            if self._stream:
                self._stream.close()
                self._count()
            hub.connections.discard(self)
            if not self._aborted.cancel() and not self._aborted.cancelled():
                self._aborted.exception()  # seen, if nothing else was quicker to end the stream
            hub.metrics.ended.labels(self.kind, code).inc()
            audio = round(self._counted / self.sample_rate, 3)
            log("stream", kind=self.kind, code=code, audio_s=audio, seconds=round(time.monotonic() - began, 3))
            with suppress(WebSocketDisconnect, RuntimeError):
                await self.socket.close(close)

    async def send(self, text: str) -> None:
        """Send one message; `watch` sees to clients that take none."""
        self._sending = time.monotonic()
        try:
            await self.socket.send_text(text)
        except RuntimeError:  # of an application server: the socket is closed
            raise WebSocketDisconnect(1006) from None
        finally:
            self._sending = 0.0

    async def receive(self) -> str | bytes:
        """The next message, or several with audio that an acceptor has joined.

        Raises:
            ProtocolError: it is too long.
            WebSocketDisconnect: the client has gone.
        """
        message = await self.socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code") or 1005)
        data: str | bytes | None = message.get("text")
        if data is not None:
            return data
        audio: bytes = message["bytes"]
        if len(audio) > self.hub.config.message_bytes and "span" not in message:
            raise ProtocolError("too-large", f"a message may have {self.hub.config.message_bytes} bytes; send smaller pieces")
        self._span = message.get("span", 0.0)
        self._bytes += len(audio)
        return audio

    async def _serve(self, stream: LiveStream) -> None:
        receiver = asyncio.create_task(self._receive(stream))
        sender = asyncio.create_task(self._send(stream))
        try:
            await asyncio.wait({receiver, sender, self._aborted}, return_when=asyncio.FIRST_COMPLETED)
            for task in (self._aborted, receiver, sender):  # the cause before what follows from it
                if task.done():
                    task.result()
            with suppress(TimeoutError):  # all is said: the client may hang up first, and so show that it has heard
                await asyncio.wait_for(receiver, 5.0)
        finally:
            for task in (receiver, sender):
                task.cancel()
            await asyncio.gather(receiver, sender, return_exceptions=True)

    async def _send(self, stream: LiveStream) -> None:
        async for item in stream:
            await self.say(item)
        await self.end()

    async def _receive(self, stream: LiveStream) -> None:
        limit = self.hub.config.session_s * self.sample_rate
        want = None if self.opus else self.socket.scope.get(WANT)
        worked = 0.0
        while True:
            if worked > _TURN_S:  # messages that have come already are taken without a pause
                worked = 0.0
                await asyncio.sleep(0)
            data = await self.receive()
            began = time.monotonic()
            if isinstance(data, str):
                before, heard, self._heard = time.monotonic(), self._heard, math.inf
                await self.hear(stream, data)
                self._heard = heard + time.monotonic() - before
                continue
            if self.finishing:
                raise ProtocolError("bad-message", "audio after the end of the audio")
            samples = self._samples(data)
            if self.base + stream.samples + len(samples) > limit:
                raise ProtocolError("too-long", f"a stream may have {self.hub.config.session_s:g} s of audio; start another")
            self._heard = math.inf
            try:
                await stream.push(samples, self._span)
            except StreamFailed:  # a ValueError, too
                raise
            except ValueError as error:
                raise ProtocolError("bad-audio", str(error)) from None
            self._heard = time.monotonic()
            worked += self._heard - began
            if want:
                unit = _TYPES[self.encoding][1]
                want(self._bytes + stream.wanted(self.sample_rate) * unit, unit)

    def _samples(self, data: bytes) -> Samples:
        if self.opus:
            try:
                return self.opus.decode(data)
            except OpusError as error:
                raise ProtocolError("bad-audio", str(error)) from None
        kind, size = _TYPES[self.encoding]
        if len(data) % size:
            raise ProtocolError("bad-audio", f"a message of {len(data)} bytes holds no whole number of {size}-byte samples")
        return np.frombuffer(data, kind)
