"""Translation obeys the law: what it says depends on the audio alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riverrun.streaming import Event, Final, Stream
from riverrun.streaming.translator import Translator

from .fake_translator import fake_translator, speak

POLICIES = [
    "alignatt:frames=4",
    "edatt:alpha=0.3",
    "local-agreement",
    "hold-n:n=2",
    "wait-k:k=2,words=ctc",
    "wait-k:words=speech",
    "fixed",
    "retranslation:mask=1",
    "streamatt:remember=sentence",
    "streamatt:size=2",
]


def translate(translator: Translator, audio: np.ndarray, piece: int = 10**9) -> list[Event]:
    stream = Stream(translator)
    events = [e for i in range(0, len(audio), piece) for e in stream.push(audio[i : i + piece])]
    return events + stream.finish()


def text(events: list[Event]) -> str:
    return " ".join(e.text for e in events if isinstance(e, Final))


sources = st.lists(st.integers(0, 9), min_size=1, max_size=12)


@pytest.mark.parametrize("policy", POLICIES)
@settings(max_examples=10, deadline=None)
@given(words=sources, cuts=st.lists(st.integers(150, 9000), min_size=1, max_size=8), end=st.integers(0, 4), save=st.just(False))
def test_any_cuts_and_restores_give_the_same_events(policy: str, words: list[int], cuts: list[int], end: int, save: bool) -> None:
    translator = fake_translator(policy, silence_s=0.3 if end % 2 else None)
    audio = speak(words, end=end)
    stream, events, at = Stream(translator), [], 0
    for i in range(1000):
        if at >= len(audio):
            break
        size = cuts[i % len(cuts)]
        events += stream.push(audio[at : at + size])
        at += size
        if save and i % 3 == 0:
            other = Stream(fake_translator(policy, silence_s=0.3 if end % 2 else None))
            other.restore(stream.save())
            stream = other
    assert events + stream.finish() == translate(translator, audio)
