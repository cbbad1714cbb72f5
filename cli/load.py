"""The clients of ``riverrun bench serve``: one process of many, told through its standard input what to do.

``{"clients": N, "within": S}`` sets how many speak at a time, and the seconds in which new ones come; ``{"report": true}`` asks for what
they have met with since the last report. Answers are JSON, one line each.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from riverrun.streaming.client import AsyncClient, ClientError
from riverrun.streaming.events import Lag

from .remote import token

RATE = 16000


@dataclass
class Load:
    """What clients met with.

    Attributes:
        delays: seconds from each utterance's last sample to its last word, which no lookahead holds up.
        late: seconds by which messages were sent too late, because this process was busy.
        refused: utterances that the server did not take, by code.
        failed: utterances that broke off, by code.
        lags: reports of the server that it was behind.
    """

    delays: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    lags: int = 0


class Clients:
    """Clients that speak one utterance after another, at the pace of speech.

    Args:
        url: of ``/v1/stream``.
        samples: int16 at 16 kHz, from which utterances are cut.
        utterance: seconds of one.
        piece: seconds of a message.
        start: fields of the start message.
        seed: of where they cut.
    """

    def __init__(self, url: str, samples: NDArray[np.int16], utterance: float, piece: float, start: dict[str, Any], seed: int):
        self._url, self._samples, self._start = url, samples, start
        self._size, self._piece = round(utterance * RATE), round(piece * RATE)
        self._random = random.Random(seed)  # noqa: S311  # no secret
        self._tasks: list[asyncio.Task[None]] = []
        self._load = Load()
        self.speaking = 0  #: streams that are open

    async def set(self, clients: int, within: float = 0.0) -> None:
        """Let so many speak; new ones come within so many seconds, those that are too many leave at once."""
        leaving = self._tasks[clients:]
        del self._tasks[clients:]
        for task in leaving:
            task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        self._tasks += [asyncio.create_task(self._client(within)) for _ in range(clients - len(self._tasks))]

    def report(self) -> dict[str, Any]:
        """What was met with since the last report."""
        load, self._load = self._load, Load()
        counts = {"refused": dict(load.refused), "failed": dict(load.failed), "lags": load.lags, "speaking": self.speaking}
        return {
            "delays": [round(d, 4) for d in load.delays],
            "late": [round(d, 4) for d in load.late[:: max(len(load.late) // 2000, 1)]],
            **counts,
        }

    async def _client(self, within: float) -> None:
        await asyncio.sleep(self._random.random() * within)
        size = round(self._size * self._random.uniform(0.1, 1.0))
        while True:
            at = self._random.randrange(max(len(self._samples) - size, 1))
            await self._speak(self._samples[at : at + size])
            size = self._size

    async def _speak(self, samples: NDArray[np.int16]) -> None:
        """One utterance."""
        stream, began = AsyncClient(self._url, RATE, token=token(), retry_s=0.0, **self._start), False
        try:
            async with stream:
                began = True
                self.speaking += 1
                listener = asyncio.create_task(self._listen(stream))
                try:
                    due = time.monotonic()
                    for at in range(0, len(samples), self._piece):
                        piece = samples[at : at + self._piece]
                        due += len(piece) / RATE
                        await asyncio.sleep(max(due - time.monotonic(), 0.0))
                        self._load.late.append(time.monotonic() - due)
                        await stream.send(piece)
                    await stream.finish()
                    await listener
                    self._load.delays.append(time.monotonic() - due)
                finally:
                    self.speaking -= 1
                    listener.cancel()
        except ClientError as error:
            (self._load.failed if began else self._load.refused)[error.code] += 1
            await asyncio.sleep(1.0)

    async def _listen(self, stream: AsyncClient) -> None:
        async for event in stream:
            self._load.lags += isinstance(event, Lag) and event.seconds > 0


async def _obey(clients: Clients) -> None:
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        order = json.loads(line)
        if "clients" in order:
            await clients.set(order["clients"], order["within"])
        else:
            print(json.dumps(clients.report()), flush=True)
    await clients.set(0)


def main() -> None:
    """Arguments: one JSON object with ``url``, ``samples`` (a npy file), ``utterance``, ``piece``, ``start`` and ``seed``."""
    about = json.loads(sys.argv[1])
    samples = np.load(Path(about["samples"]), allow_pickle=False)
    import uvicorn

    from riverrun.streaming.server.listening import allow_many_files

    allow_many_files()

    async def work() -> None:
        await _obey(Clients(about["url"], samples, about["utterance"], about["piece"], about["start"], about["seed"]))

    with asyncio.Runner(loop_factory=uvicorn.Config("").get_loop_factory()) as runner:  # uvloop's, where there is one
        runner.run(work())
