"""The protocol as a stranger's client meets it: errors have codes, end one stream, and touch no other."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from riverrun.speech.model import SpeechModel
from riverrun.streaming import Endpoint, Final, Partial, Word
from riverrun.streaming.client import AsyncClient
from riverrun.streaming.server import ServerConfig, Tokens, create_app
from riverrun.streaming.server import protocol as p

from .running import PATIENT, alone, durable, engine_of, noise, running

TOKEN = "a-token-of-sixteen-or-more"
OTHER = "another-token-that-is-good"


@asynccontextmanager
async def opened(address: str, path: str = "/v1/stream", **options: Any) -> AsyncIterator[ClientConnection]:
    async with connect(f"ws://{address}{path}", proxy=None, **options) as socket:
        yield socket


async def started(socket: ClientConnection, **start: Any) -> dict:
    await socket.send(json.dumps({"type": "start", **start}))
    return json.loads(await socket.recv())


async def rest(socket: ClientConnection) -> list[dict]:
    """Messages to the end, or until the server closes."""
    messages: list[dict] = []
    with suppress(ConnectionClosed):
        while not messages or messages[-1]["type"] != "finished":
            messages.append(json.loads(await asyncio.wait_for(socket.recv(), 10)))
    return messages


@pytest.fixture(scope="module")
def address(model: SpeechModel) -> Any:
    config = ServerConfig(PATIENT, message_bytes=200000, idle_s=1.0, start_s=1.0, session_s=20.0)
    with running(create_app(engine_of(model), config), config.message_bytes) as address:
        yield address


def test_words_of_a_stream_and_the_shape_of_its_messages(model: SpeechModel, address: str) -> None:
    audio = noise(4.0, 1)

    async def main() -> list[dict]:
        async with opened(address) as socket:
            ready = await started(socket, encoding="pcm_f32le", latency_ms=640)
            assert ready["capabilities"]["model"] == "tiny" and len(ready["resume_token"]) >= 32 and ready["audio_ms"] == 0
            for i in range(0, len(audio), 5000):
                await socket.send(audio[i : i + 5000].tobytes())
            await socket.send('{"type": "flush", "id": "x"}')
            await socket.send('{"type": "finish"}')
            return await rest(socket)

    messages = asyncio.run(main())
    assert messages[-1] == {"type": "finished"}
    flushed = messages.index({"type": "flushed", "id": "x"})
    assert messages[flushed - 1]["type"] == "partial"
    numbered = [m for m in messages if "seq" in m]
    assert [m["seq"] for m in numbered] == list(range(1, len(numbered) + 1))
    assert durable([p.event_of(p.parse_server(json.dumps(m))) for m in messages if m["type"] in ("final", "endpoint")]) == alone(
        model, audio
    )


def test_pings_do_not_keep_an_idle_stream(address: str) -> None:
    async def main() -> float:
        async with opened(address) as socket:
            await started(socket)
            began = asyncio.get_running_loop().time()

            async def ping() -> None:
                while True:
                    await socket.ping()
                    await socket.send('{"type": "flush", "id": "still here"}')
                    await asyncio.sleep(0.05)

            task = asyncio.create_task(ping())
            said = await rest(socket)
            task.cancel()
            assert said[-1]["code"] == "idle"
            return asyncio.get_running_loop().time() - began

    assert 0.9 < asyncio.run(main()) < 4


def test_tokens_and_how_many_streams_they_may_have(model: SpeechModel) -> None:
    config = ServerConfig(PATIENT)
    app = create_app(engine_of(model), config, Tokens([TOKEN, OTHER], streams=2))

    async def main(address: str) -> None:
        for headers in ({}, {"Authorization": "Bearer wrong-wrong-wrong"}, {"Authorization": TOKEN}):
            with pytest.raises(InvalidStatus) as refused:
                async with opened(address, additional_headers=headers):
                    pass
            assert refused.value.response.status_code == 401
        mine = {"additional_headers": {"Authorization": f"Bearer {TOKEN}"}}
        async with opened(address, **mine) as one, opened(address, subprotocols=["riverrun.v1", f"bearer.{TOKEN}"]) as two:
            assert two.subprotocol == "riverrun.v1"
            assert (await started(one))["type"] == (await started(two))["type"] == "ready"
            async with opened(address, **mine) as three:
                assert (await rest(three))[-1]["code"] == "limit"
            async with opened(address, additional_headers={"Authorization": f"Bearer {OTHER}"}) as other:
                assert (await started(other))["type"] == "ready"
        await asyncio.sleep(0.2)
        async with opened(address, **mine) as again:
            assert (await started(again))["type"] == "ready"

    with running(app) as address:
        asyncio.run(main(address))
        for path in ("/metrics", "/v1/models"):
            assert httpx.get(f"http://{address}{path}").status_code == 401
            assert httpx.get(f"http://{address}{path}", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
        assert httpx.post(f"http://{address}/v1/audio/transcriptions", files={"file": b"x"}).status_code == 401
        assert httpx.get(f"http://{address}/readyz").json().items() >= {"status": "ready", "streams": 0}.items()


def test_pages_of_other_origins_may_not_connect(address: str) -> None:
    async def main(origin: str) -> None:
        async with opened(address, origin=origin) as socket:
            assert (await started(socket))["type"] == "ready"

    asyncio.run(main(f"http://{address}"))
    with pytest.raises(InvalidStatus):
        asyncio.run(main("http://elsewhere.example"))


def test_a_full_server_refuses_clearly(model: SpeechModel) -> None:
    config = ServerConfig(replace(PATIENT, max_streams=1))

    async def main(address: str) -> tuple[str, int | None]:
        async with opened(address) as one:
            await started(one)
            async with opened(address) as two, opened(address) as three:
                await started(three, latency_ms=320)  # another scheduler, but the same machine
                return (await started(two))["code"], two.close_code or (await rest(two), two.close_code)[1]

    with running(create_app(engine_of(model), config)) as address:
        assert asyncio.run(main(address)) == ("full", 1013)


def sherpa(address: str, audio: np.ndarray) -> list[str]:
    async def main() -> list[str]:
        async with opened(address, "/sherpa") as socket:
            for i in range(0, len(audio), 8000):
                await socket.send(audio[i : i + 8000].tobytes())
            await socket.send("Done")
            messages = []
            async for message in socket:
                messages.append(str(message))
                if message == "Done!":
                    break
            return messages

    return asyncio.run(main())


def test_clients_of_sherpa_onnx_are_served(model: SpeechModel, address: str) -> None:
    audio = noise(4.0, 77)
    messages = sherpa(address, audio)
    assert messages[-1] == "Done!"
    results = [json.loads(m) for m in messages[:-1]]
    finals = [r for r in results if r["is_final"]]
    assert [(r["segment"], r["text"]) for r in finals] == [e[:2] for e in alone(model, audio) if isinstance(e, tuple)]
    assert all(len(r["tokens"]) == len(r["timestamps"]) for r in results)


def test_the_schema_is_published_and_tells_every_message(address: str) -> None:
    schema = httpx.get(f"http://{address}/v1/schema").json()
    assert set(schema["client"]["discriminator"]["mapping"]) == {"start", "flush", "finish"}
    expected = {"ready", "partial", "final", "endpoint", "ack", "flushed", "lag", "finished", "error"}
    assert set(schema["server"]["discriminator"]["mapping"]) == expected


def test_metrics_count_and_logs_tell_no_words(model: SpeechModel, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "riverrun.server")
    audio = noise(3.0, 5)
    with running(create_app(engine_of(model), ServerConfig(save_s=1.0))) as address:

        async def main() -> list:
            async with AsyncClient(f"ws://{address}/v1/stream") as client:
                await client.send(audio)
                await client.finish()
                return [event async for event in client]

        words = {w.text for e in asyncio.run(main()) if isinstance(e, Final) for w in e.words}
        text = httpx.get(f"http://{address}/metrics").text
    assert 'riverrun_streams_opened_total{kind="stream"} 1.0' in text
    assert 'riverrun_streams_ended_total{code="finished",kind="stream"} 1.0' in text
    assert "riverrun_audio_seconds_total 3.0" in text
    logged = [json.loads(record.message) for record in caplog.records if record.name == "riverrun.server"]
    assert {"model", "start", "stream"} <= {entry["event"] for entry in logged}
    assert words and not any(word in record.message for word in words if len(word) > 2 for record in caplog.records)


@settings(max_examples=30)
@given(st.data())
def test_events_are_the_same_on_the_other_side(data: st.DataObject) -> None:
    times = st.floats(0, 1e6)
    words = st.lists(st.builds(Word, st.text(), times, times, st.floats(0, 1), st.none() | times, st.none() | times), max_size=3).map(tuple)
    number = st.integers(0, 10**9)
    kinds: list[Callable[..., Any]] = [Partial, Final, Endpoint]
    arguments = [
        st.tuples(number, st.text(), words, number),
        st.tuples(number, st.text(), words, times, times),
        st.tuples(number, times, st.text()),
    ]
    kind = data.draw(st.integers(0, 2))
    event = kinds[kind](*data.draw(arguments[kind]))
    assert p.event_of(p.parse_server(p.encode(event, 3))) == event


@settings(max_examples=30)
@given(st.data())
def test_words_that_stay_are_written_once_and_read_alike(data: st.DataObject) -> None:
    words = data.draw(st.lists(st.builds(Word, st.text(), st.floats(0, 9), st.floats(0, 9), st.floats(0, 1)), min_size=1, max_size=6))
    partials = p.Partials()
    for _ in range(4):
        kept = words[: data.draw(st.integers(0, len(words)))] + data.draw(st.lists(st.sampled_from(words), max_size=2))
        event = Partial(data.draw(st.integers(0, 3)), data.draw(st.text()), tuple(kept), data.draw(st.integers(0, 9)))
        assert partials.encode(event) == p.encode(event, 0)
