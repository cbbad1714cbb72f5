"""Acceptors in front of the process with the models: nothing that is said changes, and nothing is lost with one of them."""

import asyncio
import os
import signal
import socket
import struct
from pathlib import Path

import httpx
import numpy as np
import pytest

from riverrun.speech.model import SpeechModel
from riverrun.streaming.client import AsyncClient
from riverrun.streaming.server.multiplex import HELD_S, WINDOW, Kind, Link, Pipe, dump, parse

from .running import Process, alone, durable, noise
from .test_transcriptions import wav


async def hear(address: str, audio: np.ndarray, rate: int) -> tuple[list, int]:
    async with AsyncClient(f"ws://{address}/v1/stream", rate) as client:
        for at in range(0, len(audio), rate // 10):
            await client.send(audio[at : at + rate // 10])
            await asyncio.sleep(0.02)
        await client.finish()
        return [event async for event in client], client.reconnects


def acceptors_of(server: Process) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        stat, command = (folder / "stat").read_text().rpartition(")")[2].split(), (folder / "cmdline").read_bytes()
        if int(stat[1]) == server.process.pid and b"acceptor" in command:
            found.append(int(folder.name))
    assert len(found) == 2
    return found


def test_streams_recordings_and_a_killed_acceptor(model: SpeechModel) -> None:
    rates = [16000, 16000, 48000, 11025] * 2
    audios = [noise(3.0, 200 + i, rate) for i, rate in enumerate(rates)]

    async def main(server: Process) -> list[tuple[list, int]]:
        streams = [asyncio.create_task(hear(server.address, audio, rate)) for audio, rate in zip(audios, rates, strict=True)]
        await asyncio.sleep(0.35)
        for acceptor in acceptors_of(server):
            os.kill(acceptor, signal.SIGKILL)
        return await asyncio.gather(*streams)

    with Process("--models", str(model.bundle.folder), "--acceptors", "2", "--save-every", "0.7") as server:
        heard = asyncio.run(main(server))
        for (events, reconnects), audio, rate in zip(heard, audios, rates, strict=True):
            assert reconnects > 0
            assert durable(events) == alone(model, audio, rate)
        answer = httpx.post(f"http://{server.address}/v1/audio/transcriptions", files={"file": wav(audios[0], 16000)})
        assert answer.json()["text"] == " ".join(text for _, text, _ in [e for e in alone(model, audios[0]) if isinstance(e, tuple)])
        assert httpx.get(f"http://{server.address}/").headers["content-type"].startswith("text/html")
        assert httpx.get(f"http://{server.address}/nowhere").status_code == 404
        assert {"acceptor-died"} <= {event["event"] for event in server.events}
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(15) == 0


def test_messages_survive_the_link_and_windows_hold() -> None:
    scope = {"type": "websocket", "headers": [(b"a\xff", b"\x00b")], "raw_path": b"/x", "client": ("::1", 5)}
    assert parse(dump(scope)) == {**scope, "headers": [[b"a\xff", b"\x00b"]], "client": ["::1", 5]}

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        opened: list[Pipe] = []
        lost: list[bool] = []
        _, server = await loop.create_unix_connection(
            lambda: Link(lambda pipe, _: opened.append(pipe), lambda: lost.append(True)), sock=ours
        )
        _, client = await loop.create_unix_connection(lambda: Link(None, lambda: None), sock=theirs)
        pipe = client.pipes[7] = Pipe(client, 7, "websocket.send")
        client.send(7, Kind.OPEN, dump({"type": "websocket"}))
        sent = 0

        async def flood() -> None:
            nonlocal sent
            for i in range(3 * WINDOW):
                await pipe.send({"type": "websocket.receive", "bytes": struct.pack("<I", i)})
                sent += 1

        flooding = asyncio.create_task(flood())
        await asyncio.sleep(0.05)
        assert sent == WINDOW  # no more is on its way before something was taken
        for i in range(3 * WINDOW):
            message = await opened[0].receive()
            assert message and message["bytes"] == struct.pack("<I", i)
        await flooding
        await opened[0].send({"type": "websocket.send", "text": "\ud800 odd"})
        assert (await pipe.receive() or {})["text"] == "\ud800 odd"
        pipe.close()
        assert await opened[0].receive() is None
        with pytest.raises(OSError, match="has ended"):
            await opened[0].send({"type": "websocket.close"})
        client._transport.abort()  # type: ignore[union-attr]
        await asyncio.sleep(0.05)
        assert lost and not client.pipes

    asyncio.run(main())


def test_audio_is_held_back_until_there_is_enough() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        opened: list[Pipe] = []
        await loop.create_unix_connection(lambda: Link(lambda pipe, _: opened.append(pipe), lambda: None), sock=ours)
        _, client = await loop.create_unix_connection(lambda: Link(None, lambda: None), sock=theirs)
        pipe = client.pipes[1] = Pipe(client, 1, "websocket.send")
        client.send(1, Kind.OPEN, dump({"type": "websocket"}))
        await asyncio.sleep(0.02)
        [application] = opened

        async def say(**message: object) -> None:
            await pipe.send({"type": "websocket.receive", **message})
            await asyncio.sleep(0.02)

        async def want(position: int) -> None:
            application.want(position, 2)
            await asyncio.sleep(0.02)

        await want(10)
        for data in (b"ab", b"cdef", b"gh"):
            await say(bytes=data)
        assert not application._queue
        await say(bytes=b"ijkl")  # enough
        joined = await application.receive() or {}
        assert joined["bytes"] == b"abcdefghijkl" and 0.03 < joined["span"] < 5
        await say(bytes=b"mn")  # nothing more was asked for
        assert (await application.receive() or {}).get("span") is None
        await want(100)
        await say(bytes=b"op")
        await want(16)  # what is there is enough after all
        assert (await application.receive() or {})["bytes"] == b"op"
        await want(100)
        await say(bytes=b"qr")
        await say(text="{}")  # what was said before comes before
        assert [(await application.receive() or {}).get(kind) for kind in ("bytes", "text")] == [b"qr", "{}"]
        await say(bytes=b"st")
        await say(bytes=b"odd")  # an error of the client, which joining would hide
        assert [(await application.receive() or {})["bytes"] for _ in range(2)] == [b"st", b"odd"]
        await say(bytes=b"uv")
        assert not application._queue
        await asyncio.sleep(HELD_S)  # who speaks slowly is heard all the same
        assert (await application.receive() or {})["bytes"] == b"uv"
        await say(bytes=b"wx")
        pipe.close()
        assert (await application.receive() or {})["bytes"] == b"wx"
        assert await application.receive() is None

    asyncio.run(main())
