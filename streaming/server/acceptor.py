"""A process that accepts connections and passes on what they carry; see `riverrun.streaming.server.acceptors`. Starts without torch."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

import uvicorn

from .listening import Listening, allow_many_files, log_errors_as_json
from .multiplex import Kind, Link, Message, Pipe, dump

_PARTS = ("type", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path", "headers", "client", "server")


class Bridge:
    """An acceptor's application: it passes everything on."""

    def __init__(self, link: Link):
        self._link, self._last = link, 0

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        self._last += 1
        number = self._last
        pipe = self._link.pipes[number] = Pipe(self._link, number, "websocket.send")
        parts = {name: scope[name] for name in _PARTS if name in scope}
        parts["asgi"] = {"version": "3.0", "spec_version": "2.4"}
        if scope["type"] == "websocket":
            parts |= {"subprotocols": scope["subprotocols"], "extensions": {"websocket.http.response": {}}}
        self._link.send(number, Kind.OPEN, dump(parts))
        up = asyncio.create_task(_pass_on(receive, pipe))
        try:
            while (message := await pipe.receive()) is not None:
                await send(message)
        finally:
            up.cancel()
            await asyncio.gather(up, return_exceptions=True)
            pipe.close()


async def _pass_on(receive: Any, pipe: Pipe) -> None:
    with suppress(OSError):
        while True:
            message = await receive()
            await pipe.send(message)
            if message["type"].endswith("disconnect"):
                return


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, link: Link):
        super().__init__(config)
        self._link = link

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._link.send(0, Kind.OPEN, dump({"type": "started"}))


async def _accept(about: dict[str, Any]) -> None:
    server: _Server | None = None

    def lost() -> None:  # the process that runs the models has gone
        os._exit(1)

    loop = asyncio.get_running_loop()
    _, link = await loop.create_unix_connection(lambda: Link(None, lost), sock=socket.socket(fileno=about["link"]))
    server = _Server(Listening(**about["listening"]).config(Bridge(link), "off"), link)
    await server.serve([socket.socket(fileno=about["bound"])])


def main() -> None:
    """Arguments: one JSON object with the descriptors ``link`` and ``bound``, and ``listening``."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the first process sees to the others
    log_errors_as_json()
    allow_many_files()
    with asyncio.Runner(loop_factory=uvicorn.Config("").get_loop_factory()) as runner:  # uvloop's, where there is one
        runner.run(_accept(json.loads(sys.argv[1])))
