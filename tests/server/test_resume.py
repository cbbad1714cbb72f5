"""Whatever breaks between client and server, the transcript is that of an unbroken stream."""

import asyncio
import random
import signal
import socket
from pathlib import Path

import numpy as np
import pytest

from riverrun.speech.model import SpeechModel
from riverrun.streaming.client import AsyncClient, Client, ClientError
from riverrun.streaming.server import ServerConfig, create_app
from riverrun.streaming.server.config import Variant
from riverrun.streaming.server.session import Record
from riverrun.streaming.state import StateError

from .proxy import proxy
from .running import Process, alone, durable, engine_of, noise, redis, running
from .test_protocol import opened, rest, started

QUICK = ServerConfig(save_s=0.7)


async def hear(
    url: str, audio: np.ndarray, rate: int, pace: float = 0.0, meeting: "Meeting | None" = None, **options: object
) -> tuple[list, AsyncClient]:
    """Send audio in pieces of all sizes; ``pace`` is the seconds of audio sent in a second, or 0 for no limit."""
    rng = random.Random(len(audio))
    async with AsyncClient(url, rate, **options) as client:  # type: ignore[arg-type]
        if meeting:
            meeting.clients.append(client)

        async def listen() -> list:
            return [event async for event in client]

        listener = asyncio.create_task(listen())
        at = 0
        while at < len(audio):
            size = rng.choice([1, 100, 999, 1600, 4410])
            await client.send(audio[at : at + size])
            at += size
            await asyncio.sleep(size / rate / pace if pace else 0)
        if meeting:
            await meeting.over.wait()
        await client.finish()
        return await listener, client


class Meeting:
    """Streams that do not end before all of them are in their middle."""

    def __init__(self) -> None:
        self.clients: list[AsyncClient] = []
        self.over = asyncio.Event()

    async def saved(self, streams: int) -> None:
        """Wait until so many are saved, and their clients know."""
        while len(self.clients) < streams or not all(client._outbox.acknowledged for client in self.clients):
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("rate", [16000, 44100])
def test_cut_delayed_and_doubled(model: SpeechModel, rate: int) -> None:
    audio = noise(9.0, 4, rate)
    rng = random.Random(rate)

    async def main(address: str) -> tuple[list, AsyncClient]:
        cuts = [20, 1, 0, 60, 2, 90]  # 0: before the start message arrives; 1: before any audio
        async with proxy(address, cuts, lambda: rng.random() * 0.02, lambda: rng.random() < 0.3) as through:
            return await hear(f"ws://{through}/v1/stream", audio, rate)

    with running(create_app(engine_of(model), QUICK)) as address:
        events, client = asyncio.run(main(address))
    assert client.reconnects >= 4  # the rest of the cuts would have come behind the end
    assert durable(events) == alone(model, audio, rate)


def test_connections_that_hang_or_lose_what_the_server_says(model: SpeechModel) -> None:
    """Half-open: nothing arrives any more, and no one says so."""
    audio = noise(4.0, 6)

    async def main(address: str) -> tuple[list, AsyncClient]:
        async with proxy(address, [12, 25, 9], hangs=[True, False, True], loses=3) as through:
            return await hear(f"ws://{through}/v1/stream", audio, 16000, stall_s=0.7)

    with running(create_app(engine_of(model), QUICK)) as address:
        events, client = asyncio.run(main(address))
    assert client.reconnects == 3
    assert durable(events) == alone(model, audio)


def test_a_stream_that_is_resumed_twice_has_one_connection(model: SpeechModel) -> None:
    async def main(address: str) -> None:
        async with opened(address) as one, opened(address) as two, opened(address) as three:
            ready = await started(one)
            await one.send(bytes(32000))
            again = {"resume": {"token": ready["resume_token"]}}
            assert (await started(two, **again))["type"] == "ready"
            assert (await rest(one))[-1]["code"] == "resumed"
            assert (await started(three, **again))["audio_ms"] == 0.0  # the old token stays good until a new one has come through
            await three.send('{"type": "finish"}')
            assert (await rest(three))[-1]["type"] == "finished"

    app = create_app(engine_of(model), QUICK)
    with running(app) as address:
        asyncio.run(main(address))


def test_cut_behind_the_end_of_the_audio(model: SpeechModel) -> None:
    audio = noise(3.0, 8)

    async def main(address: str) -> tuple[list, AsyncClient]:
        async with proxy(address, [5 + 1]) as through, AsyncClient(f"ws://{through}/v1/stream") as client:
            for i in range(4):
                await client.send(audio[12000 * i : 12000 * (i + 1)])
            await client.finish()
            await asyncio.sleep(0.5)
            return [event async for event in client], client

    with running(create_app(engine_of(model), QUICK)) as address:
        events, _ = asyncio.run(main(address))
    assert durable(events) == alone(model, audio)


def test_flush_through_cuts(model: SpeechModel) -> None:
    audio = noise(4.0, 9)

    async def main(address: str) -> tuple[list, int]:
        async with proxy(address, [3, 6]) as through, AsyncClient(f"ws://{through}/v1/stream") as client:
            for i in range(8):
                await client.send(audio[8000 * i : 8000 * (i + 1)])
                await client.flush()
            await client.finish()
            return [event async for event in client], client.reconnects

    with running(create_app(engine_of(model), QUICK)) as address:
        events, reconnects = asyncio.run(main(address))
    assert reconnects == 2
    assert durable(events) == alone(model, audio)


def test_a_server_killed_in_the_middle_of_fifty_streams_loses_nothing(model: SpeechModel, tmp_path: Path) -> None:
    rates = [16000, 48000, 8000, 16000, 44100] * 10
    audios = [noise(3.0 + 0.05 * i, 30 + i, rate) for i, rate in enumerate(rates)]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    async def main(arguments: list[str], first: Process) -> tuple[list, Process]:
        url = f"ws://127.0.0.1:{port}/v1/stream"
        meeting = Meeting()
        streams = [asyncio.create_task(hear(url, a, r, 1.5, meeting, retry_s=60.0)) for a, r in zip(audios, rates, strict=True)]
        await meeting.saved(len(streams))
        first.kill()  # SIGKILL: no goodbye
        meeting.over.set()
        second = await asyncio.to_thread(lambda: Process(*arguments, port=port))
        return await asyncio.gather(*streams), second

    with redis(tmp_path) as store:
        arguments = ["--models", str(model.bundle.folder), "--store", store, "--save-every", "0.7", "--shed", "none"]
        with Process(*arguments, port=port) as first:
            heard, second = asyncio.run(main(arguments, first))
        with second:
            resumed = [e for e in second.events if e["event"] == "start" and e["resumed_at_ms"] > 0]
            assert first.process.returncode == -signal.SIGKILL
    for (events, client), audio, rate in zip(heard, audios, rates, strict=True):
        assert client.reconnects > 0
        assert durable(events) == alone(model, audio, rate)
    assert len(resumed) == len(audios)


def test_a_draining_server_lets_streams_end_and_takes_no_more(model: SpeechModel) -> None:
    audio = noise(3.0, 50)

    async def main(server: Process) -> list:
        url = f"ws://{server.address}/v1/stream"
        async with AsyncClient(url) as client:
            await client.send(audio[:20000])
            server.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.3)
            with pytest.raises(ClientError, match="about to stop"):
                async with AsyncClient(url, retry_s=0.0):
                    pass
            await client.send(audio[20000:])
            await client.finish()
            return [event async for event in client]

    with Process("--models", str(model.bundle.folder)) as server:
        assert durable(asyncio.run(main(server))) == alone(model, audio)
        assert server.process.wait(10) == 0


def test_the_client_without_asyncio(model: SpeechModel) -> None:
    audio = noise(3.0, 60)
    with running(create_app(engine_of(model), QUICK)) as address:
        with Client(f"ws://{address}/v1/stream", latency_ms=320, encoding="pcm_f32le") as client:
            for i in range(0, len(audio), 1600):
                client.send(audio[i : i + 1600])
            client.flush()
            events = client.pending()
            assert events
            client.finish()
            events += list(client)
        with pytest.raises(ClientError, match="no latency of 123 ms"), Client(f"ws://{address}/v1/stream", latency_ms=123):
            pass
    stream = model.stream(latency_ms=320)
    assert durable(events) == durable(stream.push(audio) + stream.finish())


def test_no_server_is_one_clear_error() -> None:
    async def main() -> None:
        async with AsyncClient("ws://127.0.0.1:9/v1/stream", retry_s=0.2):
            pass

    with pytest.raises(ClientError, match="no connection to ws://127.0.0.1:9"):
        asyncio.run(main())


def test_records_survive_and_damage_is_seen() -> None:
    record = Record("m", Variant(320, "de", "wait-k:k=3"), 16000, "opus", True, 5, 2, ((1, "{}"), (2, "{}")), ("AA==",), b"data")
    assert Record.from_bytes(b"".join(record.pieces())) == record
    for damaged in (b"", b"\xff\xff\xff\xff", b"".join(record.pieces())[:20], b"\x02\0\0\0[]"):
        with pytest.raises(StateError):
            Record.from_bytes(damaged)
