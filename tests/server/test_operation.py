"""Running a server: what it refuses when it is late, what it logs, how it leaves."""

import asyncio
import json
import time
from dataclasses import replace

import httpx
import pytest

from riverrun.cli.serve import served
from riverrun.speech.model import SpeechModel
from riverrun.streaming import Final
from riverrun.streaming import Stream as AloneStream
from riverrun.streaming.client import AsyncClient
from riverrun.streaming.server import MemoryStore, ServerConfig, create_app
from riverrun.streaming.server import protocol as p
from riverrun.streaming.server.config import ServedModel

from ..streaming.test_scheduler import Slow
from .running import PATIENT, alone, durable, engine_of, noise, running
from .test_protocol import opened, rest, started


def test_a_server_whose_event_loop_is_late_takes_no_more(model: SpeechModel) -> None:
    app = create_app(engine_of(model), ServerConfig(replace(PATIENT, late_s=0.4)))
    with running(app) as address:
        over = time.monotonic() + 15.0

        def hold() -> None:
            time.sleep(0.6)
            if time.monotonic() < over:
                app.state.loop.call_later(0.05, hold)

        app.state.loop.call_soon_threadsafe(hold)
        time.sleep(1.0)

        async def main() -> dict:
            async with opened(address) as socket:
                return await started(socket)

        assert asyncio.run(main()) == {"type": "error", "code": "busy", "message": "the server is behind real time; try again later"}
        over = 0.0
        assert "riverrun_loop_delay_seconds_bucket" in httpx.get(f"http://{address}/metrics").text


def test_a_server_that_stops_sends_streams_elsewhere(model: SpeechModel) -> None:
    """Two servers share a store, as they would Redis."""
    store, audio = MemoryStore(), noise(4.0, 21)
    config = ServerConfig(PATIENT, save_s=0.5, drain_s=0.3)
    data = (audio * 32768).astype("<i2").tobytes()
    first, second = (create_app(engine_of(model), config, store=store) for _ in range(2))

    async def main(one: str, two: str) -> list[dict]:
        async with opened(one) as socket:
            ready = await started(socket)
            await socket.send(data[:80000])
            said = [json.loads(await socket.recv())]
            while said[-1]["type"] != "ack":
                said.append(json.loads(await socket.recv()))
            asyncio.run_coroutine_threadsafe(first.state.hub.drain(), first.state.loop)
            said += await rest(socket)
            assert said[-1]["code"] == "draining" and socket.close_code == 1012
        assert httpx.get(f"http://{one}/readyz").status_code == 503
        seq = max((m["seq"] for m in said if "seq" in m), default=0)
        async with opened(two) as socket:
            ready = await started(socket, resume={"token": ready["resume_token"], "seq": seq})
            assert ready["audio_ms"] > 0
            await socket.send(data[2 * round(ready["audio_ms"] * 16) :])
            await socket.send('{"type": "finish"}')
            return said + await rest(socket)

    with running(first) as one, running(second) as two:
        messages = asyncio.run(main(one, two))
    finals = [p.event_of(p.parse_server(json.dumps(m))) for m in messages if m["type"] in ("final", "endpoint")]
    assert durable(finals) == alone(model, audio)


def test_the_log_tells_what_was_said_if_it_is_asked_to(model: SpeechModel, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "riverrun.server")
    audio = noise(2.0, 5)

    async def main(address: str) -> list:
        async with AsyncClient(f"ws://{address}/v1/stream") as client:
            await client.send(audio)
            await client.finish()
            return [event async for event in client]

    with running(create_app(engine_of(model), ServerConfig(PATIENT, log_text=True))) as address:
        finals = [e for e in asyncio.run(main(address)) if isinstance(e, Final)]
    logged = [json.loads(record.message) for record in caplog.records if record.name == "riverrun.server"]
    assert [entry["text"] for entry in logged if entry["event"] == "final"] == [e.text for e in finals]
    assert all(isinstance(entry["time"], float) for entry in logged)


def test_a_search_with_beams_is_served_like_any(model: SpeechModel) -> None:
    audio = noise(2.0, 31)
    engine = replace(engine_of(model), models=served([model], "beam", 3, [320]))

    async def main(address: str) -> list:
        async with AsyncClient(f"ws://{address}/v1/stream") as client:
            assert client.capabilities and client.capabilities.latencies_ms == [320]
            await client.send(audio)
            await client.finish()
            return [event async for event in client]

    with running(create_app(engine, ServerConfig(PATIENT))) as address:
        events = asyncio.run(main(address))
    stream = AloneStream(model.recognizer(320, "beam", 3))
    assert durable(events) == durable(stream.push(audio) + stream.finish())


def test_who_waits_for_room_is_not_idle(model: SpeechModel) -> None:
    audio = noise(3.2, 41)
    slow = ServedModel("slow", ("en",), (320,), 320, lambda variant: Slow(model.recognizer(variant.latency_ms), 0.45))
    config = ServerConfig(replace(PATIENT, queue_s=0.2, batch_s=1e-9), idle_s=0.4)

    async def main(address: str) -> list:
        async with AsyncClient(f"ws://{address}/v1/stream") as client:
            for at in range(0, len(audio), 12800):
                await client.send(audio[at : at + 12800])
            await client.finish()
            return [event async for event in client]

    with running(create_app(replace(engine_of(model), models=(slow,)), config)) as address:
        events = asyncio.run(main(address))
    stream = AloneStream(model.recognizer(320))
    assert durable(events) == durable(stream.push(audio) + stream.finish())


def test_a_store_that_is_gone_spoils_no_end(model: SpeechModel, caplog: pytest.LogCaptureFixture) -> None:
    class Gone(MemoryStore):
        async def delete(self, token: str) -> None:
            raise ConnectionError("gone")

    caplog.set_level("INFO", "riverrun.server")
    audio = noise(1.0, 21)

    async def main(address: str) -> list[dict]:
        async with opened(address) as socket:
            await started(socket)
            await socket.send((audio * 32768).astype("<i2").tobytes())
            await socket.send('{"type": "finish"}')
            return await rest(socket)

    with running(create_app(engine_of(model), ServerConfig(PATIENT), store=Gone())) as address:
        assert asyncio.run(main(address))[-1]["type"] == "finished"
    assert any(json.loads(record.message)["event"] == "unforgotten" for record in caplog.records if record.name == "riverrun.server")
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
