"""The client for programs without asyncio."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import suppress
from typing import Any, Self, TypeVar

from numpy.typing import ArrayLike

from ..events import Event, Lag
from ..server import protocol as p
from .asynchronous import AsyncClient
from .errors import ClientError

T = TypeVar("T")


class Client:
    """`AsyncClient` for programs without asyncio: a context manager, whose methods block, to be iterated over for events.

    Args:
        url: as of `AsyncClient`.
        sample_rate: of the audio, in Hz.
        options: the others of `AsyncClient`.
    """

    def __init__(self, url: str, sample_rate: int = 16000, **options: Any):
        self._arguments: tuple[Any, ...] = (url, sample_rate)
        self._options = options
        self._said: queue.SimpleQueue[Event | Lag | ClientError | None] = queue.SimpleQueue()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="riverrun-client", daemon=True)

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            ClientError: no server, or it refuses.
        """
        self._thread.start()
        try:
            self._client = self._do(self._open())
        except BaseException:
            self._stop()
            raise
        self._listener = asyncio.run_coroutine_threadsafe(self._listen(), self._loop)
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._client.__aexit__())
        with suppress(Exception):
            self._listener.result()
        self._stop()

    @property
    def capabilities(self) -> p.Capabilities | None:
        """Of the server's model."""
        return self._client.capabilities

    @property
    def reconnects(self) -> int:
        """Connections that were lost."""
        return self._client.reconnects

    def hear(self, blocks: Iterable[ArrayLike]) -> Iterator[Event | Lag]:
        """Send blocks as they come, then finish; gives what was said after each block, and then the rest to the end.

        Raises:
            ClientError: the stream has failed.
            ValueError: a block that `send` does not take.
        """
        for block in blocks:
            self.send(block)
            yield from self.pending()
        self.finish()
        yield from self

    def send(self, samples: ArrayLike) -> None:
        """See `AsyncClient.send`."""
        self._do(self._client.send(samples))

    def flush(self) -> None:
        """See `AsyncClient.flush`."""
        self._do(self._client.flush())

    def finish(self) -> None:
        """See `AsyncClient.finish`."""
        self._do(self._client.finish())

    def __iter__(self) -> Iterator[Event | Lag]:
        """See `AsyncClient.__aiter__`."""
        while isinstance(item := self._said.get(), Event | Lag):
            yield item
        self._said.put(item)  # the end stays where it is
        if item is not None:
            raise item

    def pending(self) -> list[Event | Lag]:
        """Events that have come and were not yet looked at, without waiting."""
        events: list[Event | Lag] = []
        while not self._said.empty():
            item = self._said.get()
            if not isinstance(item, Event | Lag):
                self._said.put(item)
                break
            events.append(item)
        return events

    async def _open(self) -> AsyncClient:
        return await AsyncClient(*self._arguments, **self._options).__aenter__()

    async def _listen(self) -> None:
        try:
            async for event in self._client:
                self._said.put(event)
        except ClientError as error:
            self._said.put(error)
        else:
            self._said.put(None)

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
