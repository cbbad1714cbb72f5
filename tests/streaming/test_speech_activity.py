import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from riverrun.streaming.speech_activity import FRAME_MS, SpeechActivity

RATE = 16000
CPU = torch.device("cpu")


def marks(audio: np.ndarray, cuts: list[int]) -> list[bool]:
    detector = SpeechActivity(RATE)
    state, found, at = detector.init_state(2, CPU), [], 0
    for size in [*cuts, len(audio)]:
        piece = torch.from_numpy(audio[at : at + size].astype(np.float32))
        both = torch.stack([torch.ones_like(piece), piece])  # a second stream that hears nothing
        speech, frames, state = detector.step(both, torch.tensor([0, len(piece)]), state)
        assert frames[0] == 0
        found += speech[1, : int(frames[1])].tolist()
        at += size
    assert torch.equal(state.waiting[0], torch.zeros_like(state.waiting[0])) and state.count[0] == 0
    return found


def noise(seconds: float, db: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 10 ** (db / 20), int(seconds * RATE))


def share(audio: np.ndarray) -> float:
    found = marks(audio, [])
    return sum(found) / len(found)


def test_speech_is_what_stands_out() -> None:
    found = marks(np.concatenate([noise(1, -50), noise(0.5, -20), noise(1, -50)]), [])
    frames = 1000 // FRAME_MS
    assert not any(found[:frames]) and not any(found[frames * 3 // 2 :]) and all(found[frames : frames * 3 // 2])


def test_quiet_speech_in_silence_is_speech_and_steady_noise_is_none() -> None:
    assert share(np.concatenate([np.zeros(8000), noise(0.5, -48)])) == 0.5
    assert not any(marks(noise(5, -30), [])[-50:])
    assert share(np.zeros(RATE)) == 0


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 3000), max_size=12), st.integers(0, 12000))
def test_decisions_do_not_depend_on_cuts(cuts: list[int], length: int) -> None:
    audio = np.concatenate([noise(0.2, -50), noise(0.3, -25), noise(0.3, -45)])[:length]
    assert marks(audio, cuts) == marks(audio, [])
    assert len(marks(audio, cuts)) == len(audio) // (RATE * FRAME_MS // 1000)
