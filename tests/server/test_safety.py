"""Bad input ends its own stream with an error, others do not notice, and nothing of it stays."""

import asyncio
import gc
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed

from riverrun.speech.model import SpeechModel
from riverrun.streaming.client import AsyncClient
from riverrun.streaming.scheduler import LiveStream
from riverrun.streaming.server import MemoryStore, ServerConfig, create_app
from riverrun.streaming.server import protocol as p
from riverrun.streaming.server.session import Session
from riverrun.streaming.server.sherpa import SherpaConnection

from .running import PATIENT, alone, durable, engine_of, noise, running
from .test_protocol import opened, rest, started

CORPUS = Path(__file__).parent / "corpus"
KEY = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


def entries(name: str) -> list[dict]:
    return [json.loads(line) for line in (CORPUS / name).read_text().splitlines()]


@pytest.fixture(scope="module")
def server(model: SpeechModel) -> Iterator[tuple[str, FastAPI]]:
    config = ServerConfig(PATIENT, message_bytes=200000, idle_s=1.0, start_s=1.0, session_s=20.0)
    app = create_app(engine_of(model), config)
    with running(app, config.message_bytes) as address:
        yield address, app


def frames(item: Any) -> list[str | bytes]:
    """What an entry of the corpus stands for."""
    if isinstance(item, str):
        return [item]
    if "repeat" in item:
        return [item.get("prefix", "") + item["repeat"] * item["times"] + item.get("suffix", "")]
    if "upgrade" in item:
        return [f"GET {item['upgrade']} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{KEY}\r\n"]
    data = bytes(item["zeros"]) if "zeros" in item else bytes.fromhex(item["hex"])
    return [data] * item.get("many", 1)


def left(app: FastAPI) -> dict[str, int]:
    """What is there of streams."""
    hub = app.state.hub
    gc.collect()
    objects = [o for o in gc.get_objects() if type(o) in (LiveStream, Session, SherpaConnection)]
    return {
        "streams": hub.streams,
        "connections": len(hub.connections),
        "by_token": len(hub.by_token),
        "tasks": len(asyncio.all_tasks(app.state.loop)),
        "live": sum(type(o) is LiveStream for o in objects),
        "sessions": sum(type(o) is not LiveStream for o in objects),
        "slots": sum(s._used - 1 - len(s._free) for s in hub._schedulers.values()),
    }


def nothing_stays(app: FastAPI, before: dict[str, int]) -> None:
    until = time.monotonic() + 8.0
    while (now := left(app)) != before and time.monotonic() < until:
        time.sleep(0.1)
    assert now == before


async def speak(address: str, audio: np.ndarray, seconds: float) -> list:
    """A stream that behaves, all the while."""
    async with AsyncClient(f"ws://{address}/v1/stream", retry_s=0.0) as client:
        for at in range(0, len(audio), 1600):
            await client.send(audio[at : at + 1600])
            await asyncio.sleep(seconds * 1600 / len(audio))
        await client.finish()
        return [event async for event in client]


async def misbehave(address: str, entry: dict) -> None:
    async with opened(address, max_size=None) as socket:
        with suppress(ConnectionClosed):
            for item in entry["send"]:
                for frame in frames(item):
                    await socket.send(frame)
        said = await rest(socket)
        if "closes" in entry:
            assert socket.close_code == entry["closes"], entry["about"]
            return
    assert said and said[-1].get("code") == entry["code"], (entry["about"], said[-1:])
    assert "passwd" not in said[-1]["message"]


async def misbehave_raw(address: str, entry: dict) -> None:
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    began = time.monotonic()

    async def write() -> None:
        for item in entry["send"]:
            for frame in frames(item):
                writer.write(frame if isinstance(frame, bytes) else frame.encode("latin-1"))
                await writer.drain()
            await asyncio.sleep(entry.get("every", 0.05))

    writing = asyncio.create_task(write())
    answer = b""
    with suppress(ConnectionError, TimeoutError):
        answer = await asyncio.wait_for(reader.read(-1), entry["within"] + 1.0)
    writing.cancel()
    await asyncio.gather(writing, return_exceptions=True)
    writer.transport.abort()
    assert time.monotonic() - began < entry["within"], entry["about"]
    assert b"500 Internal" not in answer, entry["about"]
    assert "never" not in entry or entry["never"].encode() not in answer, entry["about"]


def test_the_corpus_ends_its_own_streams_and_no_other(model: SpeechModel, server: tuple[str, FastAPI]) -> None:
    address, app = server
    audio = noise(6.0, 2)
    before = left(app)

    async def main() -> list:
        good = [asyncio.create_task(speak(address, audio, 4.0)) for _ in range(2)]
        await asyncio.sleep(0.2)
        messages = [misbehave(address, entry) for entry in entries("messages.jsonl")]
        raw = [misbehave_raw(address, entry) for entry in entries("raw.jsonl")]
        await asyncio.gather(*messages, *raw)
        return await asyncio.gather(*good)

    for events in asyncio.run(main()):
        assert durable(events) == alone(model, audio)
    nothing_stays(app, before)


JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
FIELDS = st.dictionaries(st.sampled_from([*p.Start.model_fields, "id", "seq", "x"]), JSON | st.integers())
CONTROL = st.builds(
    lambda kind, fields: json.dumps({**fields, "type": kind}), st.sampled_from(["start", "flush", "finish", "error", ""]), FIELDS
)
AUDIO = st.binary(max_size=64) | st.builds(lambda n, byte: bytes([byte]) * n, st.integers(0, 20000), st.integers(0, 255))
MESSAGES = AUDIO | st.text() | CONTROL
STARTS = st.fixed_dictionaries(
    {},
    optional={
        "sample_rate": st.sampled_from([8000, 16000, 44100, 48000]),
        "encoding": st.sampled_from(["pcm_s16le", "pcm_f32le", "opus"]),
        "vad": st.booleans(),
    },
)


@settings(max_examples=40, deadline=None)
@given(messages=st.lists(MESSAGES, max_size=6), start=st.none() | STARTS)
def test_whatever_comes_the_server_answers_in_its_own_words(server: tuple[str, FastAPI], messages: list, start: dict | None) -> None:
    address, _ = server

    async def main() -> None:
        async with opened(address) as socket:
            try:
                if start is not None:
                    await started(socket, **start)
                for message in [*messages, '{"type": "finish"}', '{"type": "finish"}']:
                    await socket.send(message if isinstance(message, bytes) else message.encode("utf-8", "replace").decode())
            except ConnectionClosed:
                pass
            for message in await rest(socket):
                p.parse_server(json.dumps(message))
            assert socket.close_code != 1011

    asyncio.run(main())


def test_what_is_kept_is_bounded() -> None:
    async def main() -> None:
        store = MemoryStore(most_bytes=1000)
        for i in range(100):
            await store.save(f"token {i}", (bytes(40), bytes(50)), 60.0)
        await store.save("token 99", (bytes(80),), 60.0)  # in place of the other
        assert [await store.load(f"token {i}") is not None for i in (0, 88, 89, 99)] == [False, False, True, True]
        await store.save("short", (b"x",), 0.0)
        await asyncio.sleep(0.01)
        assert await store.load("short") is None
        await store.delete("token 99")
        assert await store.load("token 99") is None
        await store.save("large", (bytes(2000),), 60.0)
        assert await store.load("large") is None

    asyncio.run(main())


def test_after_all_that_the_server_is_as_it_was(model: SpeechModel, server: tuple[str, FastAPI]) -> None:
    address, app = server
    audio = noise(1.0, 3)
    assert durable(asyncio.run(speak(address, audio, 0.1))) == alone(model, audio)
    metrics = httpx.get(f"http://{address}/metrics").text
    assert 'riverrun_streams{kind="stream"} 0.0' in metrics
    nothing_stays(app, {**left(app), "streams": 0, "connections": 0, "by_token": 0, "live": 0, "sessions": 0, "slots": 0})
