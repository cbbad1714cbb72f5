"""The application on a Ray cluster of this machine: a replica is killed under load, and no one notices."""

import asyncio
import json
import os
import shutil
import signal
import socket
import tempfile
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
import ray
from ray import serve

from riverrun.speech.model import SpeechModel
from riverrun.streaming import Event
from riverrun.streaming.client import AsyncClient, ClientError
from riverrun.streaming.deploy import Settings, application

from ..server.running import alone, durable, noise, redis
from ..tiny import tiny_model

TOKEN = "a-token-of-sixteen-or-more"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> SpeechModel:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def addresses(model: SpeechModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Two replicas behind a front, on loopback: the addresses of Ray Serve's proxy and of the front itself."""
    folder = tmp_path_factory.mktemp("deployed")
    (folder / "tokens").write_text(TOKEN)
    temporary = tempfile.mkdtemp(prefix="ray")  # Ray's sockets want a short path
    port, own = free_port(), free_port()
    with pytest.MonkeyPatch.context() as patch, redis(folder) as store:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "error"}
        ray.init("local", num_cpus=2, _node_ip_address="127.0.0.1", _temp_dir=temporary, **quiet)
        try:
            serve.start(http_options={"host": "127.0.0.1", "port": port})
            settings = Settings(
                options={"models": [str(model.bundle.folder)], "threads": 1},
                store=store,
                token_file=str(folder / "tokens"),
                utilisation=float("inf"),
                replicas=(2, 2),
                cpus=0.5,
                save_s=0.7,
                host="127.0.0.1",
                port=own,
            )
            serve.run(application(settings))
            yield f"127.0.0.1:{port}", f"127.0.0.1:{own}"
        finally:
            ray.shutdown()  # without ceremony: its processes end with it
            shutil.rmtree(temporary, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def replicas() -> list[int]:
    """Process numbers of the replicas."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            title = file.read_bytes()
        except OSError:  # it has just ended
            continue
        if title.startswith(b"ray::ServeReplica:default:Replica"):
            found.append(int(file.parent.name))
    return found


async def hear(address: str, audio: np.ndarray) -> tuple[list[Event], AsyncClient]:
    """Speak twice as fast as one would."""

    async def blocks() -> AsyncIterator[np.ndarray]:
        for at in range(0, len(audio), 1600):
            yield audio[at : at + 1600]
            await asyncio.sleep(0.05)

    async with AsyncClient(f"ws://{address}/v1/stream", token=TOKEN, retry_s=60.0) as client:
        return [event async for event in client.hear(blocks()) if isinstance(event, Event)], client


def test_a_replica_killed_under_load_loses_nothing(model: SpeechModel, addresses: tuple[str, str]) -> None:
    audios = [noise(5.0, 80 + i) for i in range(8)]

    async def main() -> list[tuple[list[Event], AsyncClient]]:
        streams = [asyncio.create_task(hear(addresses[i % 2], audio)) for i, audio in enumerate(audios)]
        await asyncio.sleep(1.3)
        first, second = replicas()
        os.kill(first, signal.SIGKILL)
        heard = await asyncio.gather(*streams)
        assert second in replicas()
        return heard

    heard = asyncio.run(main())
    moved = sum(client.reconnects > 0 for _, client in heard)
    assert 0 < moved < len(audios), "the streams were not spread over both replicas"
    for (events, _), audio in zip(heard, audios, strict=True):
        assert durable(events) == alone(model, audio)


@pytest.mark.parametrize("which", [0, 1])
def test_the_rest_of_the_server_is_there(addresses: tuple[str, str], which: int) -> None:
    address = addresses[which]

    def get(path: str, token: str = TOKEN) -> bytes:
        request = urllib.request.Request(f"http://{address}{path}", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request, timeout=30) as response:
            body: bytes = response.read()
            return body

    assert json.loads(get("/v1/models"))["data"][0]["id"] == "tiny"
    assert b"page/main.js" in get("/") and b"class Timeline" in get("/page/timeline.js")
    assert json.loads(get("/healthz")) == {"status": "ok"}
    for path, token, status in (("/v1/models", "another-token-of-some-length", "401"), ("/metrics", TOKEN, "404")):
        with pytest.raises(urllib.error.HTTPError, match=status):
            get(path, token)

    async def unknown() -> None:
        async with AsyncClient(f"ws://{address}/v1/stream", token="another-token-of-some-length", retry_s=0.0):
            pass

    with pytest.raises(ClientError, match="the server refuses: HTTP 403"):
        asyncio.run(unknown())
