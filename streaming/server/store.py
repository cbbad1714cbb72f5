"""Where snapshots of streams are kept, so that a stream outlives its connection and its server."""

from __future__ import annotations

import hashlib
import time
from typing import Protocol


class SessionStore(Protocol):
    """Bytes under secret tokens, for a while. What `save` was given is there when it returns."""

    async def save(self, token: str, data: bytes, keep_s: float) -> None:
        """Keep ``data`` for ``keep_s`` seconds, in place of what was there."""

    async def load(self, token: str) -> bytes | None:
        """What is kept; None if nothing is."""

    async def delete(self, token: str) -> None:
        """Keep nothing more."""

    async def close(self) -> None:
        """Let go of connections."""


class MemoryStore:
    """In this process: survives connections, not the server."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[float, bytes]] = {}

    async def save(self, token: str, data: bytes, keep_s: float) -> None:
        """See `SessionStore`."""
        now = time.monotonic()
        self._kept[_key(token)] = (now + keep_s, data)
        for key in [key for key, (until, _) in self._kept.items() if until < now]:
            del self._kept[key]

    async def load(self, token: str) -> bytes | None:
        """See `SessionStore`."""
        until, data = self._kept.get(_key(token), (0.0, b""))
        return data if until >= time.monotonic() else None

    async def delete(self, token: str) -> None:
        """See `SessionStore`."""
        self._kept.pop(_key(token), None)

    async def close(self) -> None:
        """See `SessionStore`."""


class RedisStore:
    """In Redis, shared by servers: a stream survives its server.

    Args:
        url: ``redis://…``, ``rediss://…`` or ``unix://…``.

    Raises:
        ValueError: the URL is none of these.
    """

    def __init__(self, url: str):
        from redis.asyncio import Redis

        self._redis = Redis.from_url(url, socket_timeout=5.0, socket_connect_timeout=5.0)

    async def save(self, token: str, data: bytes, keep_s: float) -> None:
        """See `SessionStore`."""
        await self._redis.set(_key(token), data, px=max(round(keep_s * 1000), 1))

    async def load(self, token: str) -> bytes | None:
        """See `SessionStore`."""
        data = await self._redis.get(_key(token))
        return data if isinstance(data, bytes) else None

    async def delete(self, token: str) -> None:
        """See `SessionStore`."""
        await self._redis.delete(_key(token))

    async def close(self) -> None:
        """See `SessionStore`."""
        await self._redis.aclose()


def _key(token: str) -> str:
    """Tokens open streams: who reads the store must not learn them."""
    return "riverrun:stream:" + hashlib.sha256(token.encode()).hexdigest()
