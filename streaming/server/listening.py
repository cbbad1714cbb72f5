"""How connections are taken: by uvicorn, within limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import uvicorn


@dataclass(frozen=True)
class Listening:
    """How connections are taken.

    Attributes:
        message_bytes: the longest WebSocket message.
        tls_cert: PEM file of a certificate, for TLS; None: without.
        tls_key: PEM file of its key.
    """

    message_bytes: int = 1 << 20
    tls_cert: str | None = None
    tls_key: str | None = None

    def config(self, app: Any, lifespan: Literal["on", "off"] = "on") -> uvicorn.Config:
        """As uvicorn takes it."""
        return uvicorn.Config(
            app,
            ws="websockets-sansio",
            ws_max_size=self.message_bytes,
            ws_ping_interval=None,  # pongs wait behind audio that waits: a busy server would cut its healthiest clients
            ws_per_message_deflate=False,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=5,
            lifespan=lifespan,
            ssl_certfile=self.tls_cert,
            ssl_keyfile=self.tls_key,
        )
