"""A stream to a server: what ``listen --server`` and ``bench serve`` share."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from .errors import UsageError, say
from .live import Captions

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from riverrun.streaming.events import Final, Transcript

#: Environment variable with the bearer token: other users of a machine can read arguments.
TOKEN = "RIVERRUN_TOKEN"  # noqa: S105  # a name


def stream_url(server: str) -> str:
    """The WebSocket address of a server given as ``HOST:PORT``, ``http(s)://…`` or ``ws(s)://…``.

    Raises:
        UsageError: it is none of these.
    """
    parts = urlsplit(server if "://" in server else f"ws://{server}")
    schemes = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
    if parts.scheme not in schemes or not parts.hostname:
        raise UsageError(f"{server!r} is no server; give HOST:PORT, https://HOST or wss://HOST")
    path = parts.path if parts.path.endswith("/v1/stream") else parts.path.rstrip("/") + "/v1/stream"
    return urlunsplit((schemes[parts.scheme], parts.netloc, path, "", ""))


def token() -> str | None:
    """The bearer token, if there is one."""
    return os.environ.get(TOKEN) or None


def client_module() -> Any:
    """`riverrun.streaming.client`, if what it needs is installed."""
    try:
        from riverrun.streaming import client
    except ImportError as error:
        raise UsageError(f"servers are reached by the package {error.name}; pip install 'riverrun[serve]'") from None
    return client


def hear_remotely(
    server: str,
    blocks: Iterable[NDArray[np.float32]],
    sample_rate: int,
    captions: Captions,
    segments: list[Final] | None = None,
    **start: Any,
) -> tuple[Transcript, bool]:
    """Send blocks of mono samples (n,) as they come: the transcript, and False if Ctrl-C ended them early.

    ``segments`` takes the finished ones as they come: they stand even if the stream fails.

    Raises:
        ClientError: there is no such server, or it refuses.
    """
    from riverrun.streaming.events import Event, Final, Transcript

    segments = [] if segments is None else segments

    def take(events: Iterable[Any]) -> None:
        for event in events:
            if isinstance(event, Final):
                segments.append(event)
            if isinstance(event, Event):
                captions.show(event)
            elif event.seconds:
                say(f"the server is {event.seconds:.1f} s behind")

    samples, whole = 0, True
    with captions, client_module().Client(stream_url(server), sample_rate, token=token(), **start) as client:
        try:
            for block in blocks:
                client.send(block)
                samples += len(block)
                take(client.pending())
        except KeyboardInterrupt:
            whole = False
        client.finish()
        take(client)
    return Transcript(tuple(segments), samples / sample_rate), whole
