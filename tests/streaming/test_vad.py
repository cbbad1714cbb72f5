"""Voice activity: decisions belong to windows of the stream, however it is cut, batched or resumed; endpoints that go by them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from riverrun.speech import load
from riverrun.speech.audio import read_audio
from riverrun.speech.model import SpeechModel
from riverrun.streaming import Endpoint, Final, StateError, Stream
from riverrun.streaming.endpoint import EndpointConfig, EndpointRule
from riverrun.streaming.vad import WINDOW, WINDOW_S, SileroVad, VadConfig, VadError, VadState

CLIP = Path(__file__).parents[1] / "data" / "arctic_b0509_1592525968.ogg"


@pytest.fixture(scope="module")
def vad() -> SileroVad:
    return SileroVad()


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    """A sentence between two seconds of silence."""
    silence = np.random.default_rng(0).normal(0, 1e-4, 32000).astype(np.float32)
    return np.concatenate([silence, read_audio(CLIP)[:32000], silence])


def decide(vad: SileroVad, audio: np.ndarray) -> list[bool]:
    return vad.step([audio], vad.init_state(1))[0][0]


def test_speech_is_found_where_it_is(vad: SileroVad, speech: np.ndarray) -> None:
    found = np.array(decide(vad, speech))
    assert len(found) == len(speech) // WINDOW
    times = np.arange(len(found)) * WINDOW_S
    assert not found[times < 1.9].any() and not found[times > 4.6].any()
    assert found[(times > 2.3) & (times < 3.8)].mean() > 0.7


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_decisions_do_not_depend_on_pieces_batches_or_resuming(data: DataObject, vad: SileroVad, speech: np.ndarray) -> None:
    audios = [speech[data.draw(st.integers(0, 40000)) :][: data.draw(st.integers(0, 30000))] for _ in range(3)]
    want = [decide(vad, audio) for audio in audios]
    state, have, at = vad.init_state(3), [[], [], []], [0, 0, 0]  # type: ignore[var-annotated]
    while any(position < len(audio) for position, audio in zip(at, audios, strict=True)):
        sizes = [data.draw(st.sampled_from([0, 1, 300, 512, 513, 5000, 12000])) for _ in audios]
        if not any(sizes):
            sizes = [4000] * 3
        pieces = [audio[i : i + n] for audio, i, n in zip(audios, at, sizes, strict=True)]
        decided, state = vad.step(pieces, state)
        for row in range(3):
            have[row] += decided[row]
            at[row] += len(pieces[row])
        if data.draw(st.booleans()):
            state = vad.init_state(3).from_bytes(state.to_bytes())
    assert have == want


def test_a_silent_row_keeps_its_state_bit_for_bit(vad: SileroVad, speech: np.ndarray) -> None:
    _, before = vad.step([speech[:40000], speech[20000:50000]], vad.init_state(2))
    _, after = vad.step([np.zeros(0, np.float32), speech[:7000]], before)
    assert all(bool((a[0] == b[0]).all()) for (_, a), (_, b) in zip(before.named_tensors(), after.named_tensors(), strict=True))


def test_speech_ends_later_than_it_begins() -> None:
    strict, loose = SileroVad(VadConfig(0.9, 0.9)), SileroVad(VadConfig(0.9, 0.05))
    audio = read_audio(CLIP)
    assert sum(decide(strict, audio)) < sum(decide(loose, audio))
    with pytest.raises(ValueError, match="between 0 and 1"):
        VadConfig(0.3, 0.5)


def test_without_the_package_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(VadError, match=r"riverrun\[vad\]"):
        SileroVad()


@pytest.fixture(scope="module")
def model() -> SpeechModel:
    return load("default")


def test_nothing_is_reported_to_anyone(tmp_path: Path) -> None:
    """onnxruntime keeps what it will report, and an identifier of the machine, in the home folder."""
    command = "from riverrun.streaming.vad import SileroVad, VadConfig; SileroVad(VadConfig())"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"} | {"HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", command], env=environment, check=True)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_endpoints_go_by_voice_and_survive_saving(vad: SileroVad, speech: np.ndarray, model: SpeechModel) -> None:
    endpoints = EndpointConfig((EndpointRule("quiet", min_silence_s=0.2),))
    recognizer = model.recognizer(320, endpoints=endpoints)
    whole = Stream(recognizer, vad=vad)
    events = whole.push(speech) + whole.finish()
    by_voice = [e for e in events if isinstance(e, Endpoint)]
    by_labels = Stream(recognizer)
    gaps = [e for e in by_labels.push(speech) + by_labels.finish() if isinstance(e, Endpoint)]
    assert any(2.4 < e.time < 4.2 for e in gaps) and not any(2.4 < e.time < 4.2 for e in by_voice)  # none while someone speaks
    assert any(e.time > 4.5 for e in by_voice)

    assert model.stream(latency_ms=320, vad=vad, endpoints=endpoints).push(speech) == Stream(recognizer, vad=vad).push(speech)
    stream, cut = Stream(recognizer, vad=vad), []
    for at in range(0, len(speech), 7001):
        cut += stream.push(speech[at : at + 7001])
        saved = stream.save()
        stream = Stream(recognizer, vad=vad)
        stream.restore(saved)
    cut += stream.finish()
    assert [e for e in cut if isinstance(e, Final | Endpoint)] == [e for e in events if isinstance(e, Final | Endpoint)]
    with pytest.raises(StateError, match="vad"):
        Stream(recognizer).restore(saved)
    with pytest.raises(StateError):
        stream.restore(by_labels_saved(recognizer))


def by_labels_saved(recognizer: object) -> bytes:
    stream = Stream(recognizer)  # type: ignore[arg-type]
    stream.push(np.zeros(16000, np.float32))
    return stream.save()


def test_a_model_that_cannot_says_so(vad: SileroVad, model: SpeechModel) -> None:
    class Deaf:
        sample_rate, chunk, delay = 8000, 100, 0

        def __init__(self) -> None:
            self.reader, self.init_state = model.recognizer(320).reader, model.recognizer(320).init_state

    with pytest.raises(VadError, match="cannot go by voice"):
        Stream(Deaf(), vad=vad)  # type: ignore[arg-type]


def test_states_say_what_they_hold(vad: SileroVad) -> None:
    state = vad.init_state(2)
    assert isinstance(state, VadState) and state.bytes_per_stream < 4096
