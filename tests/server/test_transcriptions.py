"""Recordings over HTTP, with the client library that users have."""

import io
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import soundfile

from riverrun.cli.formats import FORMATS
from riverrun.speech.model import SpeechModel
from riverrun.streaming.server import ServerConfig, create_app

from .running import PATIENT, engine_of, noise, running


@pytest.fixture(scope="module")
def address(model: SpeechModel) -> Any:
    config = ServerConfig(PATIENT, upload_bytes=500000, session_s=10.0)
    with running(create_app(engine_of(model), config)) as address:
        yield address


@pytest.fixture(scope="module")
def client(address: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://{address}/v1", api_key="not-needed", max_retries=0)


def wav(audio: np.ndarray, rate: int, form: str = "WAV") -> tuple[str, bytes]:
    file = io.BytesIO()
    soundfile.write(file, audio, rate, format=form)
    return f"../../etc/{form.lower()}", file.getvalue()


@pytest.mark.parametrize(("rate", "form"), [(16000, "WAV"), (44100, "FLAC"), (8000, "WAV")])
def test_every_format_says_what_transcribe_says(model: SpeechModel, client: openai.OpenAI, rate: int, form: str) -> None:
    audio = noise(5.0, rate, rate)
    file = wav(audio, rate, form)
    transcript = model.transcribe(io.BytesIO(file[1]))
    create = client.audio.transcriptions.create
    assert transcript.text
    assert create(model="default", file=file).text == transcript.text
    assert create(model="tiny", file=file, response_format="text") == transcript.text + "\n"
    verbose = create(model="tiny", file=file, response_format="verbose_json", timestamp_granularities=["word", "segment"])
    assert verbose.text == transcript.text
    assert verbose.duration == pytest.approx(5.0)
    assert [(w.word, w.start, w.end) for w in verbose.words or []] == [(w.text, w.start, w.end) for w in transcript.words]
    assert [s.text for s in verbose.segments or []] == [s.text for s in transcript.segments if s.text]
    for name in ("srt", "vtt"):
        assert create(model="tiny", file=file, response_format=name) == FORMATS[name].render(transcript, "")  # type: ignore[comparison-overlap]


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [m.id for m in client.models.list()] == ["tiny"]


def test_errors_say_what_to_do(client: openai.OpenAI, address: str) -> None:
    create, good = client.audio.transcriptions.create, wav(noise(1.0, 1), 16000)
    with pytest.raises(openai.NotFoundError, match="choose from tiny"):
        create(model="whisper-1", file=good)
    with pytest.raises(openai.BadRequestError, match="not audio"):
        create(model="tiny", file=("x.wav", b"this is no audio at all"))
    with pytest.raises(openai.BadRequestError, match="empty"):
        create(model="tiny", file=("x.wav", b""))
    with pytest.raises(openai.BadRequestError, match="no prompt"):
        create(model="tiny", file=good, prompt="names")
    with pytest.raises(openai.BadRequestError, match="response_format"):
        create(model="tiny", file=good, response_format="diarized_json")
    with pytest.raises(openai.APIStatusError, match="500000 bytes") as large:
        create(model="tiny", file=("x.wav", bytes(600000)))
    assert large.value.status_code == 413
    with pytest.raises(openai.APIStatusError, match="10 s") as long:
        create(model="tiny", file=wav(np.zeros(16000 * 3600, np.float32), 16000, "FLAC"))  # an hour in a few kilobytes
    assert long.value.status_code == 413
    assert httpx.post(f"http://{address}/v1/audio/transcriptions", content=iter([b"x"])).status_code == 411
