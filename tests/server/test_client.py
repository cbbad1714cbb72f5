"""The Python client: what may be sent, what comes back, and how it fails."""

import asyncio
import re

import numpy as np
import pytest

from riverrun.speech.model import SpeechModel
from riverrun.streaming.client import AsyncClient, Client, ClientError
from riverrun.streaming.client.outbox import Outbox
from riverrun.streaming.client.samples import encode, mono
from riverrun.streaming.server import ServerConfig, create_app
from riverrun.streaming.server import protocol as p

from .running import alone, durable, engine_of, noise, running


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.array([0.5, -1.0]), [0.5, -1.0]),
        (np.array([[0.5, 0.0], [-1.0, 1.0]], np.float32), [0.25, 0.0]),
        (np.array([-32768, 16384], np.int16), [-1.0, 0.5]),
        (np.array([[-(2**31)], [2**30]], np.int32), [-1.0, 0.5]),
        (np.array([0, 128, 192], np.uint8), [-1.0, 0.0, 0.5]),
        ([0.25, 0.5], [0.25, 0.5]),
        (np.zeros(0, np.float32), []),
    ],
)
def test_any_array_may_be_sent(samples: object, expected: list[float]) -> None:
    audio = mono(samples)  # type: ignore[arg-type]
    assert audio.dtype == np.float32 and audio.tolist() == expected


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((1, 1600)), "audio must be of shape (samples,) or (samples, channels), not (1, 1600); turn it round"),
        (np.zeros((1, 2, 3)), "audio must be of shape (samples,) or (samples, channels), not (1, 2, 3)"),
        (["a"], "audio must be numbers, not <U1"),
        ([np.nan], "audio holds NaN or infinite samples"),
    ],
)
def test_what_is_no_audio(samples: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        mono(samples)  # type: ignore[arg-type]


def test_encodings() -> None:
    audio = np.array([-2.0, -1.0, 0.5, 1.0], np.float32)
    assert np.frombuffer(encode(audio, "pcm_s16le"), "<i2").tolist() == [-32768, -32768, 16384, 32767]
    assert np.frombuffer(encode(audio, "pcm_f32le"), "<f4").tolist() == audio.tolist()


def test_the_outbox_forgets_exactly_what_was_acknowledged() -> None:
    outbox = Outbox(2)
    for piece in (b"aabbcc", b"dd", b"eeff"):
        outbox.put_audio(piece)
    outbox.put_control(p.Flush(id="3"))
    outbox.acknowledge(5)
    assert (outbox.samples, outbox.kept, outbox.acknowledged, outbox.first) == (6, 1, 5, 2)
    assert [outbox.get(number) for number in range(5)] == [None, None, b"ff", '{"type":"flush","id":"3"}', None]
    outbox.acknowledge(2)  # an old one
    outbox.answered(3)
    assert outbox.acknowledged == 5 and outbox.first == 2 and outbox
    outbox.clear()
    assert not outbox and outbox.kept == 0


def test_hearing_blocks(model: SpeechModel) -> None:
    audio = noise(4.0, 70)
    blocks = [np.stack([piece, piece], 1) for piece in np.array_split(audio, 23)]

    async def arriving() -> object:
        for block in blocks:
            yield block

    async def hear(url: str, source: object) -> list:
        async with AsyncClient(url) as client:
            return [event async for event in client.hear(source)]  # type: ignore[arg-type]

    with running(create_app(engine_of(model))) as address:
        url = f"ws://{address}/v1/stream"
        with Client(url) as client:
            assert durable(list(client.hear(iter(blocks)))) == alone(model, audio)
            assert client.capabilities and client.capabilities.model == "tiny" and client.reconnects == 0
            assert list(client) == []  # the end stays the end
        assert durable(asyncio.run(hear(url, blocks))) == alone(model, audio)
        assert durable(asyncio.run(hear(url, arriving()))) == alone(model, audio)
        with pytest.raises(ValueError, match="NaN"):
            asyncio.run(hear(url, [audio, [np.nan]]))


def test_a_failed_stream_says_so_behind_its_last_events(model: SpeechModel) -> None:
    with (
        running(create_app(engine_of(model), ServerConfig(session_s=1.0))) as address,
        Client(f"ws://{address}/v1/stream", translate_to=None) as client,
    ):
        client.send(noise(0.9, 71))
        client.flush()
        client.send(noise(0.9, 71))
        for _ in range(2):
            with pytest.raises(ClientError, match="a stream may have 1 s of audio") as caught:
                list(client)
        assert caught.value.code == "too-long" and client.pending() == []
        with pytest.raises(ClientError, match="a stream may have 1 s"):
            client.send(noise(0.1, 71))


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ({"latncy_ms": 3}, "latncy_ms: Extra inputs are not permitted"),
        ({"encoding": "mp3"}, "encoding: Input should be 'pcm_s16le'"),
        ({"encoding": "opus"}, "this client does not encode opus; choose pcm_s16le or pcm_f32le"),
    ],
)
def test_options_that_do_not_exist(start: dict[str, object], message: str) -> None:
    with pytest.raises(ClientError, match=re.escape(message)):
        AsyncClient("ws://127.0.0.1:9/v1/stream", **start)  # type: ignore[arg-type]


def test_what_is_asked_of_a_translator_is_passed_on() -> None:
    options = {"translate_to": "de", "policy": "wait-k", "policy_options": {"k": 3}, "language": "en", "latency_ms": 640}
    client = AsyncClient("ws://127.0.0.1:9/v1/stream", 48000, **options)  # type: ignore[arg-type]
    assert client._start == p.Start(sample_rate=48000, **options)  # type: ignore[arg-type]


def test_a_forgotten_stream_starts_anew_while_nothing_is_lost(model: SpeechModel) -> None:
    audio = noise(3.0, 72)

    async def main(address: str, app: object) -> tuple[list, AsyncClient]:
        async with AsyncClient(f"ws://{address}/v1/stream") as client:
            await client.send(audio[:24000])
            await client.flush()
            hub = app.state.hub  # type: ignore[attr-defined]
            hub.store._kept.clear()  # as if another server had taken its place
            (connection,) = hub.connections
            connection._aborted.get_loop().call_soon_threadsafe(connection.abort, "draining", "elsewhere")
            await client.send(audio[24000:])
            await client.finish()
            return [event async for event in client], client

    app = create_app(engine_of(model), ServerConfig(save_s=60.0))
    with running(app) as address:
        events, client = asyncio.run(main(address, app))
    assert client.reconnects >= 2
    assert durable(events) == alone(model, audio)


def test_sending_in_the_moment_of_a_lost_connection_is_no_error() -> None:
    """Found by chance among fifty streams: the wait for an answer was over, and who sent tried to prolong it."""

    class Lost:
        async def recv(self) -> str:
            raise ConnectionResetError

    async def main() -> None:
        client = AsyncClient("ws://nowhere")
        with pytest.raises(ConnectionResetError):
            await client._read(Lost())  # type: ignore[arg-type]
        client._wake()

    asyncio.run(main())
