"""``riverrun bench serve``: a server under the load of real clients, in real time."""

from __future__ import annotations

import asyncio
import collections
import json
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import UsageError
from .options import Json, LiveLatency
from .remote import client_module, stream_url, token

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PIECE = 0.04  #: seconds of audio in a message, as microphones send it


@dataclass
class Load:
    """What clients met with.

    Attributes:
        delays: seconds from each utterance's last sample to its last word, which no lookahead holds up.
        refused: utterances that the server did not take, by code.
        failed: utterances that broke off, by code.
        lags: reports of the server that it was behind.
    """

    delays: list[float] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)
    failed: dict[str, int] = field(default_factory=dict)
    lags: int = 0


def serve(
    clients: Annotated[int, typer.Option("--clients", "-n", help="Clients at a time.", min=1, max=10000)] = 20,
    server: Annotated[
        str | None, typer.Option(help="A server; one is started for the time if not given.", metavar="URL", show_default=False)
    ] = None,
    model: Annotated[str, typer.Option("--model", "-m", help="Model of the server that is started.", metavar="MODEL")] = "default",
    latency: LiveLatency = None,
    audio: Annotated[Path | None, typer.Option(help="A recording, repeated to fill the time; noise if not given.", metavar="FILE")] = None,
    seconds: Annotated[float, typer.Option(help="How long to go on.", min=1.0, max=36000.0)] = 30.0,
    utterance: Annotated[float, typer.Option(help="Audio of one stream.", min=0.5, max=600.0)] = 8.0,
    threads: Annotated[int, typer.Option(help="Processor threads of the server that is started.", min=1, max=256)] = 1,
    as_json: Json = False,
) -> None:
    """Time the last word of utterances that many clients speak in real time, and count those that the server refused."""
    client_module()
    from .bench import samples_of

    heard = samples_of(audio, seconds + utterance)
    with _server(server, model, threads) as address:
        load = asyncio.run(_drive(stream_url(address), clients, heard, seconds, utterance, latency))
    result = {"clients": clients, "seconds": seconds, "utterance_seconds": utterance, "model": None if server else model, **_figures(load)}
    if as_json:
        print(json.dumps(result))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in result.items():
        table.add_row(name.replace("_", " "), "–" if value is None else str(value))
    Console(highlight=False, file=sys.stdout).print(table)


async def _drive(url: str, clients: int, samples: NDArray[np.float32], seconds: float, utterance: float, latency: int | None) -> Load:
    load, rng = Load(), random.Random(0)  # noqa: S311  # no secret
    until = time.monotonic() + seconds
    start = {} if latency is None else {"latency_ms": latency}

    async def client() -> None:
        await asyncio.sleep(rng.random() * min(utterance, seconds / 2))  # people do not begin together
        while time.monotonic() < until:
            at = rng.randrange(max(len(samples) - int(utterance * 16000), 1))
            await _speak(url, samples[at : at + int(utterance * 16000)], start, load)

    await asyncio.gather(*(client() for _ in range(clients)))
    return load


async def _speak(url: str, samples: NDArray[np.float32], start: dict[str, Any], load: Load) -> None:
    """One utterance at the pace of speech."""
    client = client_module()
    stream, began = client.AsyncClient(url, token=token(), retry_s=0.0, **start), False
    try:
        async with stream:
            began = True
            listener = asyncio.create_task(_listen(stream, load))
            due = time.monotonic()
            for at in range(0, len(samples), size := int(PIECE * 16000)):
                due += PIECE
                await asyncio.sleep(max(due - time.monotonic(), 0.0))
                await stream.send(samples[at : at + size])
            await stream.finish()
            await listener
            load.delays.append(time.monotonic() - due)
    except client.ClientError as error:
        counts = load.failed if began else load.refused
        counts[error.code] = counts.get(error.code, 0) + 1
        await asyncio.sleep(1.0)


async def _listen(stream: Any, load: Load) -> None:
    from riverrun.streaming.scheduler import Lag

    async for event in stream:
        load.lags += isinstance(event, Lag) and event.seconds > 0


def _figures(load: Load) -> dict[str, Any]:
    delays = sorted(load.delays)

    def quantile(q: float) -> float | None:
        return round(delays[min(int(q * len(delays)), len(delays) - 1)] * 1000, 1) if delays else None

    return {
        "utterances": len(delays),
        "last_word_ms_p50": quantile(0.5),
        "last_word_ms_p99": quantile(0.99),
        "last_word_ms_max": quantile(1.0),
        "refused": load.refused,
        "failed": load.failed,
        "lag_reports": load.lags,
    }


@contextmanager
def _server(given: str | None, model: str, threads: int) -> Iterator[str]:
    """The server given, or one of our own on a free port of this machine."""
    if given is not None:
        yield given
        return
    program = "from riverrun.cli.main import main; main()"
    command = [sys.executable, "-c", program, "serve", "--port", "0", "--models", model, "--max-streams", "4096"]
    process = subprocess.Popen([*command, "--threads", str(threads)], stderr=subprocess.PIPE, text=True)  # noqa: S603  # our own
    try:
        last = ""
        for last in process.stderr or ():
            if found := re.search(r'"listening", "url": "([^"]+)"', last):
                threading.Thread(target=lambda: collections.deque(process.stderr or (), 0), daemon=True).start()  # lest it fill up
                yield found[1]
                return
        raise UsageError(f"the server did not start: {last.strip().removeprefix('riverrun: ')}")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
