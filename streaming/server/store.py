"""Where snapshots of streams are kept, so that a stream outlives its connection and its server."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import Protocol

#: Bytes that nobody changes.
Pieces = Sequence[bytes | memoryview]


class SessionStore(Protocol):
    """Bytes under secret tokens, for a while. What `save` was given is there when it returns."""

    async def save(self, token: str, pieces: Pieces, keep_s: float) -> None:
        """Keep the pieces, one behind the other, for ``keep_s`` seconds, in place of what was there."""

    async def load(self, token: str) -> bytes | None:
        """What is kept; None if nothing is."""

    async def delete(self, token: str) -> None:
        """Keep nothing more."""

    async def close(self) -> None:
        """Let go of connections."""


class MemoryStore:
    """In this process: survives connections, not the server.

    Args:
        most_bytes: kept at a time; beyond it, what was kept longest goes first.
    """

    def __init__(self, most_bytes: int = 4 << 30) -> None:
        self._most, self._bytes = most_bytes, 0
        self._kept: dict[str, tuple[float, Pieces]] = {}  # in the order in which they were saved

    async def save(self, token: str, pieces: Pieces, keep_s: float) -> None:
        """See `SessionStore`."""
        now = time.monotonic()
        await self.delete(token)
        self._kept[_key(token)] = (now + keep_s, pieces)
        self._bytes += sum(map(len, pieces))
        while self._kept and (self._bytes > self._most or next(iter(self._kept.values()))[0] < now):
            self._forget(next(iter(self._kept)))

    async def load(self, token: str) -> bytes | None:
        """See `SessionStore`."""
        until, pieces = self._kept.get(_key(token), (0.0, ()))
        return b"".join(pieces) if until >= time.monotonic() else None

    async def delete(self, token: str) -> None:
        """See `SessionStore`."""
        self._forget(_key(token))

    async def close(self) -> None:
        """See `SessionStore`."""

    def _forget(self, key: str) -> None:
        _, pieces = self._kept.pop(key, (0.0, ()))
        self._bytes -= sum(map(len, pieces))


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

    async def save(self, token: str, pieces: Pieces, keep_s: float) -> None:
        """See `SessionStore`."""
        await self._redis.set(_key(token), b"".join(pieces), px=max(round(keep_s * 1000), 1))

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
