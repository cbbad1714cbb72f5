"""The processes that accept connections for the one that runs the models, and what comes through them.

A process that runs models for a thousand streams has no time to speak WebSocket and TLS to each. Acceptors do: they listen on one port
together, know nothing of what is said, and hold nothing that would be lost with them.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Coroutine
from dataclasses import asdict
from typing import Any, cast

from fastapi import FastAPI

from .hub import log
from .listening import Listening
from .multiplex import WANT, Link, Message, Pipe


class Acceptors:
    """The processes, and what comes through them.

    Args:
        app: that answers.
        bound: socket of each, all bound to one address.
        listening: how.
    """

    def __init__(self, app: FastAPI, bound: list[socket.socket], listening: Listening):
        self._app, self._bound, self._listening = app, bound, listening
        self._processes: dict[subprocess.Popen[bytes], Link] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving = False

    async def start(self) -> None:
        """Start them; they listen when this returns."""
        await asyncio.gather(*map(self._start, self._bound))

    async def stop(self) -> None:
        """Let them close what is open, and end."""
        self._leaving = True
        for process in self._processes:
            process.terminate()
        await asyncio.gather(*(asyncio.to_thread(process.wait) for process in self._processes))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _start(self, bound: socket.socket) -> None:
        ours, theirs = socket.socketpair()
        about = json.dumps({"link": theirs.fileno(), "bound": bound.fileno(), "listening": asdict(self._listening)})
        program = "from riverrun.streaming.server.acceptor import main; main()"
        with theirs:
            descriptors = (theirs.fileno(), bound.fileno())
            process = subprocess.Popen([sys.executable, "-c", program, about], pass_fds=descriptors)  # noqa: S603  # our own
        loop = asyncio.get_running_loop()
        started: asyncio.Future[None] = loop.create_future()

        def opened(pipe: Pipe, scope: Message) -> None:
            if scope["type"] == "started":
                started.set_result(None)
            else:
                self._do(self._serve(pipe, scope))

        def lost() -> None:
            if not started.done():
                started.set_exception(RuntimeError("an acceptor did not start"))
            elif not self._leaving:
                self._do(self._restart(process, bound))

        _, link = await loop.create_unix_connection(lambda: Link(opened, lost), sock=ours)
        self._processes[process] = link
        try:
            await started
        except RuntimeError:
            del self._processes[process]
            await asyncio.to_thread(process.wait)
            raise

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _restart(self, process: subprocess.Popen[bytes], bound: socket.socket) -> None:
        """Another in place of one that has died."""
        self._processes.pop(process, None)
        log("acceptor-died", status=await asyncio.to_thread(process.wait))
        while not self._leaving:
            try:
                await self._start(bound)
            except (OSError, RuntimeError):
                await asyncio.sleep(1.0)
            else:
                return

    async def _serve(self, pipe: Pipe, scope: Message) -> None:
        gone = {"type": "websocket.disconnect", "code": 1006} if scope["type"] == "websocket" else {"type": "http.disconnect"}

        async def receive() -> Message:
            return await pipe.receive() or gone

        try:
            scope["headers"] = [(name, value) for name, value in scope["headers"]]
            scope[WANT] = pipe.want
            await self._app(scope, receive, cast(Any, pipe.send))
        except OSError:  # the client has gone
            pass
        finally:
            pipe.close()


__all__ = ["Acceptors"]
