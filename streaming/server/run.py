"""The server as a process: uvicorn, and an end without losses."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import sys
from contextlib import ExitStack, suppress
from ipaddress import ip_address
from types import FrameType

import uvicorn
from fastapi import FastAPI

from .acceptors import Acceptors
from .hub import Hub, log
from .listening import Listening, allow_many_files, log_errors_as_json

#: Seconds after which the model's thread lets the event loop run, if that has something to do; Python's own 5 ms add up.
_SWITCH_S = 0.0005
#: New objects before the garbage collector looks at them, and how often it does so before it looks at older ones, too: every stream has
#: hundreds of objects, and next to none of them are garbage in cycles.
_COLLECT = (20_000, 10, 20)


class ServeError(ValueError):
    """A server that must not or cannot be started so."""


class _Server(uvicorn.Server):
    """Drains at the first signal, stops at the second. With acceptors, they listen in its place."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, url: str, acceptors: Acceptors | None):
        super().__init__(config)
        self._app, self._url, self._acceptors, self._draining = app, url, acceptors, False
        self._drain: asyncio.Future[None] | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        hub: Hub | None = getattr(self._app.state, "hub", None)
        if self._draining or hub is None or not self.started:
            super().handle_exit(sig, frame)
            return
        self._draining = True
        self._loop.call_soon_threadsafe(self._begin, hub)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started and self._acceptors:
            await self._acceptors.start()
        if self.started:
            _spare_collections()
            log("listening", url=self._url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self._acceptors:
            await self._acceptors.stop()
        await super().shutdown(sockets)

    def _begin(self, hub: Hub) -> None:
        self._drain = self._loop.create_task(self._drained(hub))

    async def _drained(self, hub: Hub) -> None:
        await hub.drain()
        self.should_exit = True


def serve(app: FastAPI, host: str = "127.0.0.1", port: int = 8000, listening: Listening | None = None, acceptors: int = 0) -> None:
    """Run until SIGTERM or Ctrl-C; the streams that are open then have a while to end, and the others are told to go elsewhere.

    Args:
        app: from `create_app`.
        host: address to listen on.
        port: to listen on; 0 takes a free one, which the log tells.
        listening: limits and TLS.
        acceptors: processes that speak HTTP, WebSocket and TLS for this one, for many streams on many cores; 0: it does so itself.

    Raises:
        ServeError: the port or the TLS files cannot be used.
    """
    listening = listening or Listening()
    if (listening.tls_cert is None) != (listening.tls_key is None):
        raise ServeError("TLS needs both a certificate and its key")
    config = listening.config(app)
    try:
        config.load()
    except OSError as error:
        raise ServeError(f"the TLS certificate or its key cannot be used: {error.strerror or error}") from None
    _log_to_stderr()
    log_errors_as_json()
    allow_many_files()
    sys.setswitchinterval(_SWITCH_S)
    with ExitStack() as stack:
        bound = [stack.enter_context(_bound(host, port, shared=acceptors > 1))]
        port = bound[0].getsockname()[1]
        bound += [stack.enter_context(_bound(host, port, shared=True)) for _ in range(acceptors - 1)]
        shown = f"[{host}]" if ":" in host else host
        url = f"{'https' if listening.tls_cert else 'http'}://{shown}:{port}"
        server = _Server(config, app, url, Acceptors(app, bound, listening) if acceptors else None)
        with suppress(KeyboardInterrupt):
            server.run([] if acceptors else bound)


def _spare_collections() -> None:
    """Let the garbage collector look less often, and never at what models are made of: while it looks, all streams wait."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT)


def _bound(host: str, port: int, shared: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # the kernel shares out connections
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        reason = (error.strerror or str(error)).lower()
        raise ServeError(f"cannot serve on {host}:{port}: {reason}; choose another --host or --port") from None
    return bound


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _log_to_stderr() -> None:
    logger = logging.getLogger("riverrun.server")
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler(sys.stderr))
        logger.setLevel(logging.INFO)
        logger.propagate = False


__all__ = ["ServeError", "is_loopback", "serve"]
