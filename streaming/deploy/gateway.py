"""How fronts reach a replica: HTTP and WebSocket on a port of its own, closed to everyone else."""

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
    """Serves an ASGI application to those who know the key.

    Args:
        app: the server.
        key: the secret.
        host: address to listen on.
        message_bytes: the longest WebSocket message.
    """

    def __init__(self, app: Any, key: str, host: str, message_bytes: int):
        self._app, self._key = app, key.encode()
        self._socket = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.address = f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
        # Fronts are trusted to be there: they are not pinged, lest a busy replica lose them.
        limits: dict[str, Any] = {"ws_max_size": message_bytes, "ws_ping_interval": None, "ws_per_message_deflate": False}
        config = uvicorn.Config(
            self._guarded, ws="websockets-sansio", lifespan="on", interface="asgi3", log_level="warning", access_log=False, **limits
        )
        self._server = uvicorn.Server(config)
        self._task: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that the system chose."""
        return int(self._socket.getsockname()[1])

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
            raise RuntimeError("the replica no longer listens; see its log")

    async def _guarded(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] in ("http", "websocket"):
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
