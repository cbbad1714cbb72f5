"""What a front passes on between a client and a replica."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.websockets import WebSocket, WebSocketState
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from ..server.protocol import Error
from ..server.tokens import bearer
from .homes import named

#: Close codes that an endpoint may send (RFC 6455); others say that a connection broke.
_SENDABLE = {1000, 1001, 1003, 1007, 1008, 1009, 1011, 1012, 1013}
_BROKEN = 1012  # service restart: come again


async def both_ways(socket: WebSocket, server: ClientConnection, name: str) -> None:
    """Pass on messages until one side leaves; ``name`` is the replica's."""
    up = asyncio.create_task(_up(socket, server))
    down = asyncio.create_task(_down(socket, server, name))
    try:
        await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        if socket.client_state is WebSocketState.CONNECTED:  # it is the replica that has left
            await down
            code = server.close_code
            await socket.close(code if code in _SENDABLE else _BROKEN)
    finally:
        for task in (up, down):
            task.cancel()
        await asyncio.gather(up, down, return_exceptions=True)


async def _up(socket: WebSocket, server: ClientConnection) -> None:
    """From the client to the replica, until the client leaves; with what code it left is passed on, too."""
    with suppress(ConnectionClosed):
        while (message := await socket.receive())["type"] == "websocket.receive":
            data = message.get("bytes")
            await server.send(message["text"] if data is None else data)
        code = message.get("code")
        await server.close(code if code in _SENDABLE else 1001)


async def _down(socket: WebSocket, server: ClientConnection, name: str) -> None:
    """From the replica to the client, until the replica ends."""
    first = True
    with suppress(ConnectionClosed):  # it died: its close code tells
        async for message in server:
            if isinstance(message, str):
                await socket.send_text(named(message, name) if first else message)
            else:
                await socket.send_bytes(message)
            first = False


async def refuse(socket: WebSocket, code: str, message: str) -> None:
    """End a connection with an error of the protocol."""
    with suppress(RuntimeError):
        await socket.send_text(Error(code=code, message=message).model_dump_json())
        await socket.close(1013 if code == "full" else 1008)


def token_of(socket: WebSocket) -> str | None:
    """The bearer token of a connection, in its header or, as browsers send it, among its subprotocols."""
    offered = (name.removeprefix("bearer.") for name in socket.scope.get("subprotocols", ()) if name.startswith("bearer."))
    return bearer(socket.headers.get("authorization")) or next(offered, None)
