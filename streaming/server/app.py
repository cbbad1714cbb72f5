"""The web application: routes, and who may use them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from .config import Engine, ServerConfig
from .hub import Hub
from .protocol import schema
from .session import Session
from .sherpa import SherpaConnection
from .store import SessionStore
from .tokens import Tokens, bearer
from .transcriptions import ApiError, router

PAGE = Path(__file__).parent / "page"
SUBPROTOCOL = "riverrun.v1"  #: a browser cannot send headers: it offers this and ``bearer.TOKEN``

#: Room in a request's body beside the recording itself.
_FORM_BYTES = 1 << 16
#: The page loads what this server gives it, and nothing else.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def create_app(
    engine: Engine, config: ServerConfig | None = None, tokens: Tokens | None = None, store: SessionStore | None = None
) -> FastAPI:
    """The server as an ASGI application; its `Hub` is ``app.state.hub`` while it runs.

    Args:
        engine: what is served.
        config: limits.
        tokens: who may use it; everyone if None.
        store: of snapshots; this process's memory if None.
    """
    config = config or ServerConfig()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with Hub(engine, config, tokens, store) as hub:
            app.state.hub = hub
            yield

    app = FastAPI(title="riverrun", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.middleware("http")(_guard(config, tokens or Tokens()))
    app.exception_handler(HTTPException)(_plain)
    app.exception_handler(RequestValidationError)(_invalid)
    app.get("/healthz")(_healthy)
    app.get("/readyz")(_ready)
    app.get("/metrics")(_metrics)
    app.get("/v1/schema")(schema)
    app.websocket("/v1/stream")(_stream)
    app.websocket("/sherpa")(_sherpa)
    app.websocket("/")(_sherpa)  # where those clients go that take no path
    if engine.decode:
        app.include_router(router)
    app.get("/", include_in_schema=False)(_index)
    app.mount("/page", StaticFiles(directory=PAGE), name="page")
    return app


async def _healthy(request: Request) -> Response:
    healthy = request.app.state.hub.healthy
    return JSONResponse({"status": "ok" if healthy else "failed"}, 200 if healthy else 503)


async def _ready(request: Request) -> Response:
    hub: Hub = request.app.state.hub
    state = "ready" if hub.ready else "draining" if hub.draining else "starting"
    about = {"status": state, "streams": len(hub.connections), "model": hub.engine.names[0], "capacity": hub.capacity}
    return JSONResponse(about, 200 if hub.ready else 503)


async def _metrics(request: Request) -> Response:
    return PlainTextResponse(request.app.state.hub.metrics.text(), media_type="text/plain; version=0.0.4")


async def _index() -> FileResponse:
    return FileResponse(PAGE / "index.html")


async def _stream(socket: WebSocket) -> None:
    token = _shown(socket)
    if await _admitted(socket, token):
        offered = SUBPROTOCOL if SUBPROTOCOL in socket.scope.get("subprotocols", ()) else None
        await Session(socket, socket.app.state.hub, token, offered).run()


async def _sherpa(socket: WebSocket) -> None:
    token = _shown(socket)
    if await _admitted(socket, token):
        await SherpaConnection(socket, socket.app.state.hub, token).run()


def _shown(socket: WebSocket) -> str | None:
    offered = (name.removeprefix("bearer.") for name in socket.scope.get("subprotocols", ()) if name.startswith("bearer."))
    return bearer(socket.headers.get("authorization")) or next(offered, None)


async def _admitted(socket: WebSocket, token: str | None) -> bool:
    """Whether a client may connect; if not, it has been told."""
    hub: Hub = socket.app.state.hub
    origin = socket.headers.get("origin")
    if not hub.tokens.admits(token):
        await socket.send_denial_response(_problem(401, "unauthorized", "show a bearer token"))
    elif origin and urlsplit(origin).netloc != socket.headers.get("host") and origin not in hub.config.origins:
        await socket.send_denial_response(_problem(403, "unauthorized", "pages of this origin may not connect"))
    else:
        return True
    return False


Next = Callable[[Request], Awaitable[Response]]


def _guard(config: ServerConfig, tokens: Tokens) -> Callable[[Request, Next], Awaitable[Response]]:
    """Tokens and sizes, before a body is read."""

    async def guard(request: Request, call_next: Next) -> Response:
        path = request.url.path
        token = bearer(request.headers.get("authorization"))
        if (path.startswith("/v1/") and path != "/v1/schema" or path == "/metrics") and not tokens.admits(token):
            return _problem(401, "unauthorized", "show a bearer token")
        request.state.token = token
        if request.method == "POST":
            length = request.headers.get("content-length", "")
            if not length.isdecimal():
                return _problem(411, "bad-message", "say the length of the body in Content-Length")
            if int(length) > config.upload_bytes + _FORM_BYTES:
                return _problem(413, "too-large", f"a recording may have {config.upload_bytes} bytes")
        response = await call_next(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return guard


def _problem(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse(ApiError(code, message, status=status).detail, status)


async def _plain(request: Request, error: HTTPException) -> Response:
    body: Any = error.detail if isinstance(error.detail, dict) else {"error": {"message": error.detail, "code": None}}
    return JSONResponse(body, error.status_code, error.headers)


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    param = str(first["loc"][-1])
    return JSONResponse(ApiError("bad-message", f"{param}: {first['msg']}", param).detail, 400)
