"""The front: takes connections, finds each stream its replica, and passes on what they say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake

from ..server import Tokens
from ..server.app import SUBPROTOCOL
from ..server.hub import log
from .carriage import both_ways, refuse, token_of
from .gateway import KEY
from .homes import home_of
from .settings import Settings


class Front:
    """An ASGI application, ``app``.

    Args:
        replicas: handle of the replicas.
        settings: of the application.
        key: secret of the replicas.
    """

    def __init__(self, replicas: DeploymentHandle[Any], settings: Settings, key: str):
        self._replicas, self._settings, self._key = replicas, settings, key
        self._tokens = Tokens.from_file(settings.token_file) if settings.token_file else Tokens()
        self.app = Starlette(
            routes=[
                WebSocketRoute("/v1/stream", self._stream),
                WebSocketRoute("/sherpa", self._sherpa),
                Route("/healthz", self._healthy),
                Route("/metrics", self._metrics),
                Route("/{path:path}", self._other, methods=["GET", "HEAD", "POST"]),
            ]
        )

    async def _stream(self, socket: WebSocket) -> None:
        """A stream; its first message decides where it goes."""
        offered = socket.scope.get("subprotocols", ())
        if not await self._admitted(socket):
            return
        await socket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
        with suppress(WebSocketDisconnect):
            try:
                async with asyncio.timeout(self._settings.start_s):
                    first = await socket.receive_text()
            except (TimeoutError, KeyError):  # nothing, or audio
                await refuse(socket, "bad-message", "no start message")
                return
            home, first = home_of(first)
            await self._carry(socket, "/v1/stream", home, first)

    async def _sherpa(self, socket: WebSocket) -> None:
        """A stream of sherpa-onnx's clients."""
        if await self._admitted(socket):
            await socket.accept()
            with suppress(WebSocketDisconnect):
                await self._carry(socket, "/sherpa", "", None)

    async def _healthy(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _metrics(self, request: Request) -> Response:
        """Those of any one replica would only mislead."""
        return _problem(404, "replicas count for themselves: look at Ray's metrics")

    async def _other(self, request: Request) -> Response:
        """Everything else, by any replica."""
        length = request.headers.get("content-length", "" if request.method == "POST" else "0")
        if not length.isdecimal():
            return _problem(411, "say the length of the body in Content-Length")
        if int(length) > self._settings.upload_bytes:
            return _problem(413, f"a request may have {self._settings.upload_bytes} bytes")
        headers = [(k, v) for k, v in request.headers.raw if k != KEY.encode()]
        path, query = request.scope["path"], request.scope["query_string"]
        try:
            answer = await self._replicas.answer.remote(request.method, path, query, headers, await request.body())
        except (RayError, RayServeException) as error:
            log("unanswered", path=path, error=type(error).__name__)
            return Response(status_code=503, headers={"Retry-After": "2"})
        response = Response(answer.body, answer.status)
        response.raw_headers = list(answer.headers)
        return response

    async def _admitted(self, socket: WebSocket) -> bool:
        """Whether a client may connect; if not, it has been told."""
        origin = socket.headers.get("origin")
        known = self._tokens.admits(token_of(socket))
        own = not origin or urlsplit(origin).netloc == socket.headers.get("host") or origin in self._settings.origins
        if not (known and own):
            await socket.close(1008)
        return known and own

    async def _carry(self, socket: WebSocket, path: str, home: str, first: str | None) -> None:
        """Connect with a replica, and pass on messages until one side leaves."""
        try:
            async with self._connected(path, home, token_of(socket)) as (name, server):
                log("stream", replica=name, home=home or None)
                if first is not None:
                    await server.send(first)
                await both_ways(socket, server, name)
        except (RayError, RayServeException, TimeoutError, OSError, InvalidHandshake) as error:
            log("unplaced", error=type(error).__name__)
            await refuse(socket, "full", "no replica has room now; try again later")

    @asynccontextmanager
    async def _connected(self, path: str, home: str, token: str | None) -> AsyncIterator[tuple[str, ClientConnection]]:
        """A connection with a replica, at home if that can be, and its lease."""
        lease: Any = self._replicas.options(stream=True, session_id=home).lease.remote()
        try:
            async with asyncio.timeout(self._settings.place_s):
                name, address = await anext(lease)
            headers = {KEY: self._key} | ({"Authorization": f"Bearer {token}"} if token else {})
            options: dict[str, Any] = {"ping_interval": None, "compression": None, "proxy": None, "max_size": 1 << 24, "close_timeout": 2}
            async with connect(f"ws://{address}{path}", additional_headers=headers, **options) as server:
                yield name, server
        finally:
            lease.cancel()


def _problem(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message, "code": None}}, status)
