"""Servers for tests: in this process, or as a process of its own."""

import asyncio
import json
import math
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import uvicorn
from fastapi import FastAPI

from riverrun.cli.formats import FORMATS
from riverrun.cli.serve import served
from riverrun.speech.audio import Resampler, open_audio
from riverrun.speech.model import SpeechModel
from riverrun.streaming import Event, Final, Partial
from riverrun.streaming.scheduler import SchedulerConfig
from riverrun.streaming.server import Engine, Listening

#: Takes whoever comes, however late it is: what a test sees must not depend on the speed of the machine.
PATIENT = SchedulerConfig(utilisation=math.inf, late_s=math.inf, shed="none")


def engine_of(model: SpeechModel) -> Engine:
    return Engine(
        served([model]),
        Resampler,
        lambda recording, rate: open_audio(recording).blocks(sample_rate=rate),
        {name: FORMATS[name].render for name in ("srt", "vtt")},
    )


@contextmanager
def running(app: FastAPI, message_bytes: int = 1 << 20) -> Iterator[str]:
    """Run the application in a thread; gives HOST:PORT."""
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    config = Listening(message_bytes, head_s=1.0, body_s=3.0, close_s=0.5).config(app)
    config.timeout_graceful_shutdown = 2
    server = uvicorn.Server(config)

    async def serve() -> None:
        app.state.loop = asyncio.get_running_loop()
        await server.serve([bound])

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    try:
        while not server.started and thread.is_alive():
            threading.Event().wait(0.01)
        assert server.started
        yield f"127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        bound.close()


class Process:
    """``riverrun serve`` as a process; ``address`` is HOST:PORT, ``log`` its lines so far."""

    def __init__(self, *arguments: str, port: int = 0):
        command = [sys.executable, "-c", "from riverrun.cli.main import main; main()", "serve", "--port", str(port), "--no-calibrate"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True, env=environment)
        self.log: list[str] = []
        assert self.process.stderr
        for line in self.process.stderr:
            self.log.append(line)
            if found := re.search(r'"listening", "url": "https?://([^"]+)"', line):
                self.address = found[1]
                break
        else:
            raise AssertionError("".join(self.log))
        self._reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr or ()), daemon=True)
        self._reader.start()

    @property
    def events(self) -> list[dict]:
        return [json.loads(line) for line in self.log if line.startswith("{")]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._reader.join()


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """A Redis of our own on loopback; gives its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                threading.Event().wait(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


def noise(seconds: float, seed: int, rate: int = 16000) -> np.ndarray:
    random = np.random.default_rng(seed)
    n = int(seconds * rate)
    loud = np.repeat(random.random(n // (rate // 10) + 1) > 0.3, rate // 10)[:n]
    audio = random.normal(0, 0.1, n) * loud * np.sin(np.arange(n) * random.uniform(0.05, 0.5))
    return (np.round(audio * 32768) / 32768).astype(np.float32)  # the same as 16 bit


def durable(events: list) -> list[tuple]:
    """What never changes again, but for the last bits of confidences."""
    found = [e for e in events if isinstance(e, Event) and not isinstance(e, Partial)]
    return [(e.segment, e.text, [w[:3] for w in map(_word, e.words)]) if isinstance(e, Final) else e for e in found]  # type: ignore[misc]


def _word(word: object) -> tuple:
    return tuple(word.__dict__.values())


def alone(model: SpeechModel, audio: np.ndarray, rate: int = 16000) -> list[tuple]:
    stream = model.stream(sample_rate=rate)
    return durable(stream.push(audio) + stream.finish())
