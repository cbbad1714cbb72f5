"""Many ASGI connections over one local socket, between acceptors, which speak HTTP and WebSocket, and the process that runs the models.

A frame is a head (length, connection, kind) and a payload: JSON, or bytes as they are where there are many of them. Either side sends at
most `WINDOW` messages of a connection ahead of what the other has taken, so a connection that is not read fills nothing but its window.

An application that can do nothing with a little audio says how much it waits for (`Pipe.want`), and the acceptor holds messages back until
there is so much: a process with a thousand streams is woken once for each chunk of a stream, and not for each message.
Both ends are processes of ours; a frame that makes no sense ends the link.
"""

from __future__ import annotations

import asyncio
import json
import struct
import time
from collections import deque
from collections.abc import Callable
from enum import IntEnum
from typing import Any, cast

#: Messages of one connection that are on their way at a time.
WINDOW = 32
#: Seconds for which messages are held back at most: who speaks slowly must not seem idle.
HELD_S = 1.0
#: Key of `Pipe.want` in the scope of a connection that comes through an acceptor.
WANT = "riverrun.want"

_HEAD = struct.Struct("<IIB")
_WANT = struct.Struct("<QI")
_SPAN = struct.Struct("<f")
_LONGEST = 1 << 28  # bytes of a frame
_HELD = 1 << 18  # bytes of binary messages that are held back at most

Message = dict[str, Any]


class Kind(IntEnum):
    """What a frame holds."""

    OPEN = 0  # a scope, as JSON
    EVENT = 1  # an ASGI message without large bytes, as JSON
    BINARY = 2  # a WebSocket message
    TEXT = 3  # a WebSocket message
    BODY = 4  # part of a body of which more comes
    LAST = 5  # the last part of a body
    TAKEN = 6  # how many messages were taken since this was last said
    CLOSE = 7  # nothing more comes: the application has returned, or the client has gone
    WANT = 8  # bytes, of all binary messages together, before which none need be passed on, and the size of their unit
    JOINED = 9  # several WebSocket messages, behind the seconds from the first to the last


class Pipe:
    """One connection's messages, in both directions.

    Args:
        link: that carries them.
        number: of the connection.
        received: type that incoming WebSocket messages have: "websocket.receive" for an application, "websocket.send" for an acceptor.
    """

    def __init__(self, link: Link, number: int, received: str):
        self._link, self._number, self._received = link, number, received
        self._body = "http.request" if received == "websocket.receive" else "http.response.body"
        self._queue: deque[Message] = deque()
        self._arrived = asyncio.Event()
        self._room = asyncio.Event()
        self._ahead = self._taken = 0
        self._come = 0  # bytes of binary messages so far
        self._wanted, self._unit = 0, 1
        self._held: list[bytes] = []
        self._held_bytes, self._held_since = 0, 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.closed = False  #: whether the other side has ended it

    async def receive(self) -> Message | None:
        """The next message; None when nothing more comes."""
        while not self._queue:
            if self.closed:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        self._taken += 1
        if self._taken >= WINDOW // 2:
            self._link.send(self._number, Kind.TAKEN, struct.pack("<I", self._taken))
            self._taken = 0
        return self._queue.popleft()

    async def send(self, message: Message) -> None:
        """Send a message; waits while too many are on their way.

        Raises:
            OSError: the other side has ended the connection.
        """
        while self._ahead >= WINDOW and not self.closed:
            self._room.clear()
            await self._room.wait()
        if self.closed:
            raise ConnectionResetError("the connection has ended")
        kind, data = message["type"], message.get("bytes")
        if data is not None and self._hold(data):
            return
        self._pass_held()
        self._ahead += 1
        if kind in ("websocket.receive", "websocket.send"):
            if data is not None:
                self._link.send(self._number, Kind.BINARY, data)
            else:
                self._link.send(self._number, Kind.TEXT, message["text"].encode("utf-8", "surrogatepass"))
        elif kind in ("http.request", "http.response.body"):
            self._link.send(self._number, Kind.BODY if message.get("more_body") else Kind.LAST, message.get("body", b""))
        else:
            self._link.send(self._number, Kind.EVENT, dump(message))

    def want(self, position: int, unit: int) -> None:
        """Let the other side hold binary messages back until there are so many bytes of them, counted from the first.

        They come joined then, as one message with ``span``, the seconds from the first of them to the last.

        Args:
            position: bytes, those included that have come already.
            unit: bytes; a message that is no whole number of them is not joined.
        """
        self._link.send(self._number, Kind.WANT, _WANT.pack(position, unit))

    def _hold(self, data: bytes) -> bool:
        """Whether a binary message is held back, or has left with those that were."""
        self._come += len(data)
        if self._come >= self._wanted and not self._held or len(data) % self._unit or self._held_bytes + len(data) > _HELD:
            return False
        if not self._held:
            self._held_since = time.monotonic()
            self._timer = self._link.later(HELD_S, self._pass_held)
        self._held.append(data)
        self._held_bytes += len(data)
        if self._come >= self._wanted:
            self._pass_held()
        return True

    def _pass_held(self) -> None:
        if not self._held:
            return
        span = time.monotonic() - self._held_since
        self._link.send(self._number, Kind.JOINED, b"".join([_SPAN.pack(span), *self._held]))
        self._ahead += 1
        self._held, self._held_bytes = [], 0
        if self._timer:
            self._timer.cancel()

    def close(self) -> None:
        """Say that nothing more comes, and take nothing more."""
        self._pass_held()
        self._link.pipes.pop(self._number, None)
        self._link.send(self._number, Kind.CLOSE, b"")

    def take(self, kind: int, data: bytes) -> None:
        """A frame has come."""
        if kind == Kind.BINARY:
            self._put({"type": self._received, "bytes": data, "text": None})
        elif kind == Kind.TEXT:
            self._put({"type": self._received, "text": data.decode("utf-8", "surrogatepass"), "bytes": None})
        elif kind in (Kind.BODY, Kind.LAST):
            self._put({"type": self._body, "body": data, "more_body": kind == Kind.BODY})
        elif kind == Kind.EVENT:
            self._put(parse(data))
        elif kind == Kind.JOINED:
            self._put({"type": self._received, "bytes": data[_SPAN.size :], "text": None, "span": _SPAN.unpack_from(data)[0]})
        elif kind == Kind.WANT:
            self._wanted, self._unit = _WANT.unpack(data)
            if self._come >= self._wanted:
                self._pass_held()
        elif kind == Kind.TAKEN:
            self._ahead -= struct.unpack("<I", data)[0]
            self._room.set()
        else:
            self.end()

    def end(self) -> None:
        """Nothing more comes from the other side."""
        self.closed = True
        self._arrived.set()
        self._room.set()

    def _put(self, message: Message) -> None:
        self._queue.append(message)
        self._arrived.set()


class Link(asyncio.Protocol):
    """One end of a local socket.

    Args:
        opened: called with a new connection and its scope; None: the other side opens none.
        lost: called when the socket is closed.
    """

    def __init__(self, opened: Callable[[Pipe, Message], None] | None, lost: Callable[[], None]):
        self._opened, self._lost = opened, lost
        self.pipes: dict[int, Pipe] = {}  #: connections, by number
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._out: list[bytes] = []
        self._in = bytearray()

    def send(self, number: int, kind: Kind, data: bytes) -> None:
        """Send a frame; those of one turn of the event loop leave together."""
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out += [_HEAD.pack(len(data), number, kind), data]

    def later(self, seconds: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        """Call something in a while."""
        return self._loop.call_later(seconds, call)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport and not self._transport.is_closing():
            self._transport.write(b"".join(out))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its class

    def connection_lost(self, error: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        for pipe in list(self.pipes.values()):
            pipe.end()
        self._lost()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._in += data
        view, at, end = bytes(self._in), 0, len(self._in)
        while end - at >= _HEAD.size:
            size, number, kind = _HEAD.unpack_from(view, at)
            if size > _LONGEST:
                raise ValueError("the other end of the link does not speak its language")
            if end - at < _HEAD.size + size:
                break
            at += _HEAD.size
            self._take(number, kind, view[at : at + size])
            at += size
        del self._in[:at]

    def _take(self, number: int, kind: int, data: bytes) -> None:
        if kind == Kind.OPEN and self._opened:
            pipe = self.pipes[number] = Pipe(self, number, "websocket.receive")
            self._opened(pipe, parse(data))
        elif number in self.pipes:
            self.pipes[number].take(kind, data)


def dump(message: Message) -> bytes:
    """A scope or an ASGI message as JSON: bytes as latin-1, marked as such."""
    return json.dumps(message, default=_plain).encode()


def parse(data: bytes) -> Message:
    """What `dump` wrote."""
    message: Message = json.loads(data, object_hook=_marked)
    return message


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return {"latin-1": value.decode("latin-1")}
    return list(value)


def _marked(value: dict[str, Any]) -> Any:
    return value["latin-1"].encode("latin-1") if value.keys() == {"latin-1"} else value
