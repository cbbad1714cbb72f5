"""HTTP and WebSocket on a port of one's own: a replica's, closed to all but its fronts, or a front's."""

from __future__ import annotations

import asyncio
import secrets
import socket
from dataclasses import dataclass
from typing import Any

import uvicorn

#: Header with the secret that fronts and replicas of one application share.
KEY = "x-riverrun-key"


class Gateway:
    """Serves an ASGI application on a port of its own.

    Args:
        app: the application.
        key: to be shown by those who may use it; None: everyone may.
        host: address to listen on.
        message_bytes: the longest WebSocket message.
        port: to listen on, with others of the same node; 0: any, alone.
        tls: PEM files of a certificate and its key.
    """

    def __init__(self, app: Any, key: str | None, host: str, message_bytes: int, port: int = 0, tls: tuple[str, str] | None = None):
        self._app, self._key = app, key.encode() if key is not None else None
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, reuse_port=bool(port), backlog=2048)
        shown = f"[{host}]" if ":" in host else host
        self.address = f"{shown}:{self._socket.getsockname()[1]}"
        # Nobody is pinged: pongs wait behind audio that waits, and a busy server would cut its healthiest clients.
        limits: dict[str, Any] = {"ws_max_size": message_bytes, "ws_ping_interval": None, "ws_per_message_deflate": False}
        if tls:
            limits |= {"ssl_certfile": tls[0], "ssl_keyfile": tls[1]}
        common: dict[str, Any] = {"ws": "websockets-sansio", "log_level": "warning", "access_log": False, "server_header": False}
        self._server = uvicorn.Server(uvicorn.Config(self._guarded, interface="asgi3", lifespan="on", **common, **limits))
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen; the application has started when this returns.

        Raises:
            RuntimeError: it has not.
        """
        self._task = asyncio.create_task(self._server.serve([self._socket]))
        while not self._server.started:
            if self._task.done():
                self.check()
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        """End, with all connections."""
        self._server.should_exit = True
        if self._task:
            await self._task

    def check(self) -> None:
        """See that it still listens.

        Raises:
            RuntimeError: it does not.
        """
        if self._task is None or self._task.done():
            raise RuntimeError(f"{self.address} no longer listens; see the log")

    async def _guarded(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if self._key is not None and scope["type"] in ("http", "websocket"):
            shown = next((value for name, value in scope["headers"] if name == KEY.encode()), b"")
            if not secrets.compare_digest(shown, self._key):
                await _refuse(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _refuse(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
    else:
        await send({"type": "http.response.start", "status": 403, "headers": []})
        await send({"type": "http.response.body", "body": b""})


@dataclass(frozen=True)
class Answer:
    """A response to an HTTP request."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


async def ask(app: Any, method: str, path: str, query: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> Answer:
    """Put one HTTP request to an ASGI application of this process."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "client": None,
        "server": None,
    }
    sent: list[dict[str, Any]] = []
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if asked:
            await asyncio.Event().wait()  # the client stays
        asked = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start = next(message for message in sent if message["type"] == "http.response.start")
    whole = b"".join(message.get("body", b"") for message in sent if message["type"] == "http.response.body")
    return Answer(start["status"], tuple((bytes(k), bytes(v)) for k, v in start.get("headers", ())), whole)
