"""``serve``, ``listen --server`` and ``bench serve`` from the command line."""

import json
import signal
import ssl
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from riverrun.cli.errors import UsageError
from riverrun.cli.live import Captions
from riverrun.cli.main import main
from riverrun.cli.remote import hear_remotely, stream_url
from riverrun.cli.serve import served
from riverrun.speech.model import SpeechModel
from riverrun.streaming.server import ServerConfig, Tokens, create_app

from .running import PATIENT, Process, alone, durable, engine_of, noise, running

TOKEN = "a-token-of-sixteen-or-more"


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    return int(exit.value.code or 0)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("localhost:8000", "ws://localhost:8000/v1/stream"),
        ("https://speech.example", "wss://speech.example/v1/stream"),
        ("http://speech.example/riverrun/", "ws://speech.example/riverrun/v1/stream"),
        ("wss://speech.example/v1/stream", "wss://speech.example/v1/stream"),
    ],
)
def test_addresses_of_servers(given: str, url: str) -> None:
    assert stream_url(given) == url


@pytest.mark.parametrize("given", ["ftp://x", "http://", ""])
def test_what_is_no_address(given: str) -> None:
    with pytest.raises(UsageError, match="is no server"):
        stream_url(given)


def test_listening_through_a_server(model: SpeechModel, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    audio = noise(4.0, 3, 44100)
    monkeypatch.setenv("RIVERRUN_TOKEN", TOKEN)
    with running(create_app(engine_of(model), ServerConfig(), Tokens([TOKEN]))) as address:
        blocks = (audio[i : i + 1764] for i in range(0, len(audio), 1764))
        transcript, whole = hear_remotely(address, blocks, 44100, Captions(), model="default", latency_ms=None)
    assert whole
    assert transcript.duration == 4.0
    expected = [e for e in alone(model, audio, 44100) if isinstance(e, tuple)]
    assert durable(list(transcript.segments)) == expected
    assert capsys.readouterr().out.split() == " ".join(text for _, text, _ in expected).split()


def test_listening_through_a_server_until_interrupted(model: SpeechModel) -> None:
    audio = noise(2.0, 3)

    def microphone() -> object:
        yield audio
        raise KeyboardInterrupt

    with running(create_app(engine_of(model))) as address:
        transcript, whole = hear_remotely(address, microphone(), 16000, Captions())  # type: ignore[arg-type]
    assert not whole
    assert durable(list(transcript.segments)) == [e for e in alone(model, audio) if isinstance(e, tuple)]


def test_a_model_is_offered_at_the_latencies_that_it_allows(capsys: pytest.CaptureFixture[str]) -> None:
    def recognizer(latency_ms: int, search: str, beam: int) -> str:
        if latency_ms >= 1000:
            raise ValueError("this model allows less")
        return "a recogniser"

    model = SimpleNamespace(info={"name": "short", "languages": ["en"]}, recognizer=recognizer)
    (found,) = served([model])
    assert (found.latencies_ms, found.default_latency_ms, found.transcribes) == ((500,), 500, True)
    with pytest.raises(UsageError, match="^model short cannot be served at 1000 ms: this model allows less$"):
        served([model], latencies=(500, 1000))


def test_a_signal_before_anything_listens() -> None:
    """Process 1 of a container, which has no handlers but its own, must hear it."""
    command = [sys.executable, "-c", "from riverrun.cli.main import main; main()", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        heard = 0
        while not heard >> (signal.SIGTERM - 1) & 1:  # until there is a handler
            assert process.poll() is None
            status = Path(f"/proc/{process.pid}/status").read_text()
            heard = int(status.partition("SigCgt:")[2].split()[0], 16)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--host", "0.0.0.0"], "without --token-file anyone"),
        (["--token-file", "/nowhere"], "cannot be read as a list of tokens"),
        (["--models", "MODEL", "--tls-cert", "x.pem"], "TLS needs both"),
        (["--models", "MODEL", "--tls-cert", "x.pem", "--tls-key", "x.pem"], "cannot be used: no such file"),
        (["--models", "MODEL", "--models", "MODEL"], "two models have one name"),
        (["--models", "MODEL", "--store", "file:///etc/passwd"], "--store"),
        (["--models", "/nowhere"], "nowhere"),
    ],
)
def test_errors_of_serve(model: SpeechModel, capsys: pytest.CaptureFixture[str], arguments: list[str], says: str) -> None:
    folder = str(model.bundle.folder)
    assert run("serve", *(folder if a == "MODEL" else a for a in arguments)) == 2
    error = capsys.readouterr().err
    assert says.lower() in error.lower() and error.count("\n") == 1


def test_a_port_in_use(model: SpeechModel, capsys: pytest.CaptureFixture[str]) -> None:
    with running(create_app(engine_of(model))) as address:
        assert run("serve", "--models", str(model.bundle.folder), "--port", address.split(":")[1]) == 2
    assert "address already in use; choose another" in capsys.readouterr().err


def test_serving_with_tls_and_tokens(model: SpeechModel, tmp_path: Path) -> None:
    certificate, key, tokens = tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "tokens"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2", "-nodes"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", *subject, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    tokens.write_text(f"# ours\n\n{TOKEN}\n")
    options = ["--models", str(model.bundle.folder), "--tls-cert", str(certificate), "--tls-key", str(key), "--token-file", str(tokens)]
    with Process(*options, "--acceptors", "1") as server:
        trust = ssl.create_default_context(cafile=str(certificate))
        request = urllib.request.Request(f"https://{server.address}/v1/models", headers={"Authorization": f"Bearer {TOKEN}"})
        with urllib.request.urlopen(request, context=trust) as response:
            assert json.load(response)["data"][0]["id"] == "tiny"


def test_bench_serve_measures_and_finds(model: SpeechModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(16000, np.float32), 16000)
    config = ServerConfig(replace(PATIENT, max_streams=3))
    with running(create_app(engine_of(model), config)) as address:
        options = [
            "--server",
            address,
            "--seconds",
            "2",
            "--utterance",
            "1",
            "--audio",
            str(tmp_path / "a.wav"),
            "--limit",
            "1500",
            "--json",
        ]
        assert run("bench", "serve", *options, "-n", "2") == 0
        result = json.loads(capsys.readouterr().out)
        assert result["passed"] and result["utterances"] >= 2 and result["speaking"] <= 2
        assert 0 < result["last_word_ms_p50"] <= result["last_word_ms_p99"] < 1500
        assert 0 < result["chunk_ms_p99"] < 1500
        assert run("bench", "serve", *options, "--budget", "60") == 0
        result = json.loads(capsys.readouterr().out)
        assert result["streams_held"] == 3
        assert result["at_twice_that"]["refused"].keys() == {"full"} and not result["at_twice_that"]["failed"]
