"""How connections are taken: by uvicorn, within limits."""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


@dataclass(frozen=True)
class Listening:
    """How connections are taken.

    Attributes:
        message_bytes: the longest WebSocket message.
        head_s: in which a request's head must arrive, in seconds.
        body_s: in which its body must.
        close_s: in which a client must answer that its WebSocket is closed.
        tls_cert: PEM file of a certificate, for TLS; None: without.
        tls_key: PEM file of its key.
    """

    message_bytes: int = 1 << 20
    head_s: float = 10.0
    body_s: float = 600.0
    close_s: float = 5.0
    tls_cert: str | None = None
    tls_key: str | None = None

    def config(self, app: Any, lifespan: Literal["on", "off"] = "on") -> uvicorn.Config:
        """As uvicorn takes it."""
        http: Any = partial(TimedHttp, self.head_s, self.body_s)
        websocket: Any = partial(TimedWebSocket, self.close_s)
        return uvicorn.Config(
            app,
            http=http,
            ws=websocket,
            ws_max_size=self.message_bytes,
            ws_ping_interval=None,  # pongs wait behind audio that waits: a busy server would cut its healthiest clients
            ws_per_message_deflate=False,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
            lifespan=lifespan,
            ssl_certfile=self.tls_cert,
            ssl_keyfile=self.tls_key,
        )


class TimedHttp(H11Protocol):
    """HTTP whose requests must arrive in time: uvicorn itself waits for ever for those who send a byte now and then, or none.

    Args:
        head_s: for a request's head, in seconds.
        body_s: for its body.
        arguments: uvicorn's.
    """

    def __init__(self, head_s: float, body_s: float, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        self._limits = {h11.IDLE: head_s, h11.SEND_BODY: body_s}
        self._awaited: Any = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """A response was sent."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        super().connection_lost(exc)
        self._await(None)

    def _watch(self) -> None:
        upgraded = self.transport.is_closing() or self.transport.get_protocol() is not self
        self._await(None if upgraded else self.conn.their_state)

    def _await(self, awaited: Any) -> None:
        """Start the clock when something else is awaited than before."""
        if awaited is self._awaited:
            return
        self._awaited = awaited
        if self._timer:
            self._timer.cancel()
        self._timer = self.loop.call_later(self._limits[awaited], self.transport.abort) if awaited in self._limits else None


class TimedWebSocket(WebSocketsSansIOProtocol):
    """WebSocket whose end is not waited for long.

    Args:
        close_s: in which a client must answer a close, in seconds.
        arguments: uvicorn's.
    """

    def __init__(self, close_s: float, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        self.close_timeout = close_s


class _JsonLines(logging.Formatter):
    """What uvicorn and this package have to say of defects, as one line of JSON like the rest of the log."""

    def format(self, record: logging.LogRecord) -> str:
        facts: dict[str, Any] = {"time": round(record.created, 3), "event": record.levelname.lower(), "message": record.getMessage()}
        if record.exc_info:
            facts["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(facts)


def log_errors_as_json() -> None:
    """Write errors to stderr, as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    for name, level in (("uvicorn.error", logging.ERROR), ("riverrun", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False


def allow_many_files() -> None:
    """Let this process have as many sockets as it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


__all__ = ["Listening", "TimedHttp", "TimedWebSocket", "allow_many_files", "log_errors_as_json"]
