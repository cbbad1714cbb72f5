"""The server as a process: uvicorn, and an end without losses."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI

from .hub import Hub, log


class ServeError(ValueError):
    """A server that must not or cannot be started so."""


class _Server(uvicorn.Server):
    """Drains at the first signal, stops at the second."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, url: str):
        super().__init__(config)
        self._app, self._url, self._draining = app, url, False
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
        if self.started:
            log("listening", url=self._url)

    def _begin(self, hub: Hub) -> None:
        self._drain = self._loop.create_task(self._drained(hub))

    async def _drained(self, hub: Hub) -> None:
        await hub.drain()
        self.should_exit = True


def serve(
    app: FastAPI,
    host: str = "127.0.0.1",
    port: int = 8000,
    tls_cert: str | Path | None = None,
    tls_key: str | Path | None = None,
    message_bytes: int = 1 << 20,
) -> None:
    """Run until SIGTERM or Ctrl-C; the streams that are open then have a while to end, and the others are told to go elsewhere.

    Args:
        app: from `create_app`.
        host: address to listen on.
        port: to listen on; 0 takes a free one, which the log tells.
        tls_cert: PEM file of a certificate, for TLS.
        tls_key: PEM file of its key.
        message_bytes: the longest WebSocket message.

    Raises:
        ServeError: the port or the TLS files cannot be used.
    """
    if (tls_cert is None) != (tls_key is None):
        raise ServeError("TLS needs both a certificate and its key")
    config = uvicorn.Config(
        app,
        ws="websockets-sansio",
        ws_max_size=message_bytes,
        ws_ping_interval=None,  # pongs wait behind audio that waits: a busy server would cut its healthiest clients
        ws_per_message_deflate=False,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        ssl_certfile=tls_cert,
        ssl_keyfile=str(tls_key) if tls_key else None,
    )
    try:
        config.load()
    except OSError as error:
        raise ServeError(f"the TLS certificate or its key cannot be used: {error.strerror or error}") from None
    _log_to_stderr()
    with _bound(host, port) as bound:
        shown = f"[{host}]" if ":" in host else host
        server = _Server(config, app, f"{'https' if tls_cert else 'http'}://{shown}:{bound.getsockname()[1]}")
        with suppress(KeyboardInterrupt):
            server.run([bound])


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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
