"""Whole, in pieces, in a batch, resumed: the same text, words and endpoints."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from riverrun.speech.model import SpeechModel
from riverrun.streaming import Event, Final, Partial, StateError, Stream
from riverrun.streaming.endpoint import EndpointConfig

from ..tiny import tiny_model

KINDS = [
    ({"transducer": None}, "greedy", "ctc"),
    ({"transducer": None}, "beam", "ctc"),
    ({"ctc": False}, "greedy", "transducer"),
    ({"ctc": False, "transducer": "lstm"}, "beam", "transducer"),
]


@pytest.fixture(scope="module", params=range(len(KINDS)), ids=lambda i: f"{KINDS[i][2]}-{KINDS[i][1]}")
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[SpeechModel, dict]:
    options, search, head = KINDS[request.param]
    return tiny_model(tmp_path_factory.mktemp("tiny"), **options), {"search": search, "head": head}


def noise(seconds: float, seed: int) -> np.ndarray:
    """Something that changes all the time, with pauses."""
    random = np.random.default_rng(seed)
    n = int(seconds * 16000)
    loud = np.repeat(random.random(n // 1600 + 1) > 0.3, 1600)[:n]
    return (random.normal(0, 0.1, n) * loud * np.sin(np.arange(n) * random.uniform(0.05, 0.5))).astype(np.float32)


def finals(events: list[Event]) -> list[Event]:
    """What must agree to the letter: texts, times, endpoints; not confidences, which are sums in float32."""
    return [
        replace(e, words=tuple(replace(w, confidence=1.0) for w in e.words)) if isinstance(e, Final) else e
        for e in events
        if not isinstance(e, Partial)
    ]


def confidences(events: list[Event]) -> list[float]:
    return [w.confidence for e in events if isinstance(e, Final) for w in e.words]


def whole(model: SpeechModel, audio: np.ndarray, **options: object) -> list[Event]:
    recognizer = model.recognizer(**options)  # type: ignore[arg-type]
    return recognizer.reader().finish(recognizer.whole(torch.from_numpy(audio)[None], torch.tensor([len(audio)])), 0)


@pytest.mark.parametrize("latency_ms", [160, 640])
@settings(max_examples=5, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(seed=st.integers(0, 10**6), seconds=st.floats(0, 4), cuts=st.lists(st.integers(500, 30000), min_size=1, max_size=8))
@example(seed=7, seconds=0.01, cuts=[1])
def test_any_cut_and_resume_is_the_whole(
    model: tuple[SpeechModel, dict], latency_ms: int, seed: int, seconds: float, cuts: list[int]
) -> None:
    speech, options = model
    options = {**options, "latency_ms": latency_ms}
    audio = noise(seconds, seed)
    stream, events, at, i = speech.stream(**options), [], 0, 0
    while at < len(audio):
        events += stream.push(audio[at : at + cuts[i % len(cuts)]])
        at += cuts[i % len(cuts)]
        if i % 3 == 1:
            saved, stream = stream.save(), speech.stream(**options)
            stream.restore(saved)
        i += 1
    events += stream.finish()
    want = whole(speech, audio, **options)
    assert finals(events) == finals(want)
    assert confidences(events) == pytest.approx(confidences(want), abs=2e-3)
    assert finals(list(speech.transcribe(audio, **options).segments)) == finals([e for e in want if isinstance(e, Final)])


def test_a_batch_of_streams_gives_what_each_gives_alone(model: tuple[SpeechModel, dict]) -> None:
    speech, options = model
    recognizer = speech.recognizer(160, **options)
    clips = [noise(s, i) for i, s in enumerate((3.1, 0.0, 1.7, 4.9))]
    state, readers = recognizer.init_state(4), [recognizer.reader() for _ in clips]
    got: list[list[Event]] = [[] for _ in clips]
    at, random = [0] * 4, np.random.default_rng(0)
    while any(a < len(c) for a, c in zip(at, clips, strict=True)):
        take = [min(int(random.choice([0, 700, 2560])), len(c) - a) for a, c in zip(at, clips, strict=True)]
        audio = torch.randn(4, 2560)
        for s, (a, n) in enumerate(zip(at, take, strict=True)):
            audio[s, :n] = torch.from_numpy(clips[s][a : a + n])
            at[s] += n
        output, state = recognizer.step(audio, torch.tensor(take), state)
        for s in range(4):
            got[s] += readers[s].read(output, s)
    output = recognizer.flush(state)
    for s, clip in enumerate(clips):
        assert finals(got[s] + readers[s].finish(output, s)) == finals(whole(speech, clip, latency_ms=160, **options))


def test_another_sample_rate_is_resampled_live(model: tuple[SpeechModel, dict]) -> None:
    speech, options = model
    audio = noise(2.0, 3)
    whole_stream = speech.stream(sample_rate=8000, **options)
    want = whole_stream.push(audio) + whole_stream.finish()
    stream, got = speech.stream(sample_rate=8000, **options), []
    for piece in np.array_split(audio, 23):
        got += stream.push(piece)
        saved, stream = stream.save(), speech.stream(sample_rate=8000, **options)
        stream.restore(saved)
    assert finals(got + stream.finish()) == finals(want)


def test_int16_is_float(model: tuple[SpeechModel, dict]) -> None:
    speech, options = model
    audio = (noise(1.5, 4) * 32767).astype(np.int16)
    heard, again = speech.transcribe(audio, **options), speech.transcribe(audio / np.float32(32768), **options)
    assert finals(list(heard.segments)) == finals(list(again.segments))


def test_wrong_pieces_are_named(model: tuple[SpeechModel, dict]) -> None:
    stream: Stream = model[0].stream()
    with pytest.raises(ValueError, match=r"audio must be mono, of shape \(samples,\), not \(2, 5\)"):
        stream.push(np.zeros((2, 5), np.float32))
    with pytest.raises(ValueError, match="audio holds NaN or infinite samples"):
        stream.push(np.array([0, np.nan], np.float32))
    with pytest.raises(ValueError, match="audio must be float or int16, not int64"):
        stream.push(np.zeros(3, np.int64))  # type: ignore[arg-type]
    stream.finish()
    with pytest.raises(ValueError, match="the stream has ended: start a new one"):
        stream.push(np.zeros(3, np.float32))


def test_damaged_or_foreign_state_is_refused(model: tuple[SpeechModel, dict], tmp_path: Path) -> None:
    speech, _ = model
    saved = speech.stream(latency_ms=160).save()
    with pytest.raises(StateError, match="the saved stream is damaged"):
        speech.stream(latency_ms=160).restore(saved[:100])
    with pytest.raises(StateError, match="belongs to another model"):
        speech.stream(latency_ms=640).restore(saved)


def test_state_does_not_grow(model: tuple[SpeechModel, dict]) -> None:
    speech, options = model
    stream = speech.stream(latency_ms=160, endpoints=EndpointConfig(longest_s=2.0), **options)
    sizes = []
    for i in range(16):
        stream.push(noise(1.0, i))
        sizes.append(len(stream.save()))
    assert max(sizes[8:]) < 1.1 * max(sizes[:8])
