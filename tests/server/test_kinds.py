"""Streams other than plain recognition of PCM: Opus, voice activity, translation, and sherpa-onnx's own client."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from riverrun.cli.serve import served
from riverrun.speech import load
from riverrun.speech.model import SpeechModel
from riverrun.streaming import Stream
from riverrun.streaming.client import AsyncClient, ClientError
from riverrun.streaming.policies import parse_policy
from riverrun.streaming.server import ServerConfig, create_app
from riverrun.streaming.server import protocol as p
from riverrun.streaming.server.opus import OpusDecoder, OpusError, duration
from riverrun.streaming.translator import Translator
from riverrun.streaming.vad import SileroVad

from ..tiny_translator import tiny_translator
from .running import PATIENT, alone, durable, engine_of, noise, running
from .test_protocol import opened, rest, started

OPEN = ServerConfig(PATIENT, save_s=0.7, variants=2)


def packets(audio: np.ndarray, ms: int = 20, layout: str = "mono") -> list[bytes]:
    """Audio at 48 kHz as Opus packets."""
    encoder: Any = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.format, encoder.layout, encoder.bit_rate = 48000, "flt", layout, 32000
    encoder.options = {"frame_duration": str(ms)}
    encoder.open()
    size, made = 48 * ms, []
    for at in range(0, len(audio) - size + 1, size):
        samples = np.repeat(audio[None, at : at + size], 2 if layout == "stereo" else 1, 1).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="flt", layout=layout)
        frame.sample_rate, frame.pts = 48000, at
        made += [bytes(packet) for packet in encoder.encode(frame)]
    return made


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load(tiny_translator(tmp_path_factory.mktemp("translator"), ("de", "fr")))


@pytest.fixture(scope="module")
def address(model: SpeechModel, translator: Any) -> Iterator[str]:
    with running(create_app(replace(engine_of(model), models=served([model, translator])), OPEN)) as address:
        yield address


async def send(address: str, messages: list[bytes], wait: float = 0.0, **start: Any) -> list[dict]:
    async with opened(address) as socket:
        ready = await started(socket, **start)
        if ready["type"] != "ready":
            return [ready]
        for message in messages:
            await socket.send(message)
            await asyncio.sleep(wait)
        await socket.send('{"type": "finish"}')
        return await rest(socket)


def events_of(messages: list[dict]) -> list:
    return [p.event_of(p.parse_server(json.dumps(m))) for m in messages if m["type"] in ("partial", "final", "endpoint")]


@pytest.mark.parametrize(("ms", "layout"), [(20, "mono"), (60, "mono"), (10, "stereo")])
def test_opus_is_heard_as_its_decoded_audio(model: SpeechModel, address: str, ms: int, layout: str) -> None:
    sent = packets(noise(3.0, 3, 48000), ms, layout)
    decoder = OpusDecoder()
    audio = np.concatenate([decoder.decode(packet) for packet in sent])
    assert len(audio) == sum(map(duration, sent)) == len(sent) * 48 * ms
    messages = asyncio.run(send(address, sent, encoding="opus", sample_rate=48000))
    assert messages[-1]["type"] == "finished"
    assert durable(events_of(messages)) == alone(model, audio, 48000)


def test_a_resumed_opus_stream_hears_what_it_would_have_heard(model: SpeechModel, address: str) -> None:
    sent = packets(noise(5.0, 4, 48000))
    decoder = OpusDecoder()
    audio = np.concatenate([decoder.decode(packet) for packet in sent])
    start = {"encoding": "opus", "sample_rate": 48000}

    async def main() -> list[dict]:
        said: list[dict] = []
        async with opened(address) as socket:
            ready = await started(socket, **start)
            for packet in sent[:170]:
                await socket.send(packet)
            while True:
                said.append(json.loads(await socket.recv()))
                if said[-1]["type"] == "ack" and said[-1]["audio_ms"] > 2000:
                    break
            socket.transport.abort()  # gone without a word
        seq = max((m["seq"] for m in said if "seq" in m), default=0)
        async with opened(address) as socket:
            ready = await started(socket, **start, resume={"token": ready["resume_token"], "seq": seq})
            at = 0.0
            for packet in sent:
                if at >= ready["audio_ms"]:
                    await socket.send(packet)
                at += duration(packet) / 48
            await socket.send('{"type": "finish"}')
            return said + await rest(socket)

    assert durable(events_of(asyncio.run(main()))) == alone(model, audio, 48000)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=80) | st.builds(lambda head, n: bytes([head, n & 63]) + bytes(50), st.integers(0, 255), st.integers(0, 63)))
def test_what_is_no_packet_costs_little_and_says_so(data: bytes) -> None:
    decoder = OpusDecoder()
    try:
        audio = decoder.decode(data)
    except OpusError as error:
        assert "Opus" in str(error)
    else:
        assert len(audio) == duration(data) <= 5760 and audio.dtype == np.float32 and np.isfinite(audio).all()


def test_endpoints_go_by_voice_where_a_client_asks(model: SpeechModel, address: str) -> None:
    audio = noise(3.0, 9)
    stream = Stream(model.recognizer(), vad=SileroVad())
    want = durable(stream.push(audio) + stream.finish())

    async def main() -> None:
        async with AsyncClient(f"ws://{address}/v1/stream", vad=True) as client:
            await client.send(audio)
            await client.finish()
            assert durable([event async for event in client]) == want
            assert client.capabilities and client.capabilities.vad

    asyncio.run(main())
    [refused] = asyncio.run(send(address, [], model="tiny-st", vad=True))
    assert (refused["code"], refused["type"]) == ("unsupported", "error")


def translated(translator: Any, audio: np.ndarray, policy: str, language: str) -> list:
    stream = Stream(Translator(translator.attention_model(640), parse_policy(policy), language=language, silence_s=1.2))
    return durable(stream.push(audio) + stream.finish())


def test_translation_by_language_and_policy(translator: Any, address: str) -> None:
    audio = noise(4.0, 12)
    pieces = [audio[at : at + 5000].astype("<f4").tobytes() for at in range(0, len(audio), 5000)]
    start = {"model": "tiny-st", "encoding": "pcm_f32le", "latency_ms": 640}
    for asked, policy, language in [
        ({}, "alignatt", "de"),
        ({"translate_to": "fr"}, "alignatt", "fr"),
        ({"policy": "wait-k", "policy_options": {"k": 2}}, "wait-k:k=2", "de"),
        (
            {"translate_to": "fr", "policy": "hold-n", "policy_options": {"n": 3}, "language": "en"},
            "hold-n:n=3",
            "fr",
        ),  # a third: one must go
    ]:
        messages = asyncio.run(send(address, pieces, **start, **asked))
        assert messages[-1]["type"] == "finished"
        assert durable(events_of(messages)) == translated(translator, audio, policy, language)
        assert all(0 <= m["stable"] <= len(m["text"]) for m in messages if m["type"] == "partial")
    words = [word for m in messages if m["type"] == "final" for word in m["words"]]
    assert words and all("emitted_ms" in word for word in words)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"model": "tiny-st", "translate_to": "tlh"}, "choose from de, fr"),
        ({"model": "tiny-st", "policy": "guess"}, "unknown policy"),
        ({"model": "tiny-st", "policy": "wait-k", "policy_options": {"frames": 3}}, "no option 'frames'"),
        ({"model": "tiny-st", "policy": "wait-k", "policy_options": {"k": -1}}, "k"),
        ({"model": "tiny", "translate_to": "de"}, "does not translate"),
        ({"model": "tiny", "policy": "alignatt"}, "does not translate"),
    ],
)
def test_translation_that_cannot_be_had(address: str, asked: dict, says: str) -> None:
    [refused] = asyncio.run(send(address, [], **asked))
    assert refused["code"] == "unsupported" and says in refused["message"]


def test_capabilities_tell_what_a_model_can_do(address: str) -> None:
    async def main(model: str) -> p.Capabilities:
        async with AsyncClient(f"ws://{address}/v1/stream", model=model) as client:
            assert client.capabilities
            return client.capabilities

    tiny, other = asyncio.run(main("tiny")), asyncio.run(main("tiny-st"))
    assert tiny.vad and not tiny.translation and "opus" in tiny.encodings
    assert other.translation == ["de", "fr"] and "alignatt" in other.policies and not other.vad


def test_too_many_policies_at_a_time(address: str) -> None:
    async def main() -> str:
        url, start = f"ws://{address}/v1/stream", {"model": "tiny-st", "policy": "wait-k", "retry_s": 0.0}
        one = AsyncClient(url, **start, policy_options={"k": 5})
        two = AsyncClient(url, **start, policy_options={"k": 6})
        async with one, two:
            with pytest.raises(ClientError, match="too many policies"):
                async with AsyncClient(url, **start, policy_options={"k": 7}):
                    pass
        return "done"

    assert asyncio.run(main()) == "done"


def test_the_client_of_sherpa_onnx_as_it_comes(model: SpeechModel, address: str, tmp_path: Path) -> None:
    """The program of the package sherpa-onnx-bin: it knows an address and no path."""
    audio = noise(3.0, 78)
    soundfile.write(tmp_path / "a.wav", audio, 16000, subtype="PCM_16")
    host, port = address.split(":")
    client = Path(sys.executable).parent / "sherpa-onnx-online-websocket-client"
    options = [f"--server-ip={host}", f"--server-port={port}", "--samples-per-message=4000", "--seconds-per-message=0.02"]
    done = subprocess.run([client, *options, tmp_path / "a.wav"], capture_output=True, text=True, timeout=60, check=True)
    texts = [text for _, text, _ in [e for e in alone(model, audio) if isinstance(e, tuple)]]
    assert texts and all(text in done.stdout + done.stderr for text in texts)
