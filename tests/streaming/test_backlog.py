"""Audio that waits: whole chunks, none lost, and the clock of each."""

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from riverrun.streaming.scheduler.backlog import Backlog

RECOGNIZER: Any = SimpleNamespace(chunk=100, delay=30, sample_rate=1000)


@given(data=st.data())
def test_nothing_is_lost_and_chunks_are_whole(data: DataObject) -> None:
    audio = np.arange(1, 901, dtype=np.int16)
    backlog, heard, at = Backlog(RECOGNIZER, np.zeros(0, np.float32), 0), [], 0
    while at < len(audio):
        piece = audio[at : at + data.draw(st.sampled_from([400, 130, 100, 77, 30]))]
        at += len(piece)
        backlog.append(piece if data.draw(st.booleans()) else piece.astype(np.float32) / 32768)
        assert backlog.end == at and backlog.waiting == at - backlog.heard
        assert backlog.chunks() == max((at - 30) // 100 - max(backlog.heard - 30, 0) // 100, 0)
        while (ready := backlog.chunks()) and data.draw(st.booleans()):
            taken = backlog.take(min(ready, data.draw(st.integers(1, 5))))
            heard.append(taken)
            assert (backlog.heard - 30) % 100 == 0
        assert np.array_equal(backlog.peek(7), (audio[backlog.heard : at][:7] / 32768).astype(np.float32))
    rest = backlog.peek()
    assert np.array_equal(np.concatenate([np.zeros(0, np.float32), *heard, rest]), (audio / 32768).astype(np.float32))


@pytest.mark.parametrize("sizes", [[10, 25, 400], [29, 1, 99, 1], [500]])
def test_the_delay_may_be_heard_by_itself(sizes: list[int]) -> None:
    backlog, taken = Backlog(RECOGNIZER, np.zeros(0, np.float32), 0, leads=True), []
    for size in sizes:
        backlog.append(np.zeros(size, np.float32))
        while backlog.chunks():
            assert backlog.leading == (not taken)
            taken.append(len(backlog.take(1)))
        assert backlog.wanted == (130 if taken else 30) + 100 * max(len(taken) - 1, 0) - backlog.end
    assert taken == [30, *[100] * ((sum(sizes) - 30) // 100)]


def test_a_chunk_waits_from_when_it_became_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    backlog = Backlog(RECOGNIZER, np.zeros(0, np.float32), 0)
    for _ in range(20):  # 20 ms at a time, as they are spoken
        backlog.append(np.zeros(20, np.float32))
        now += 0.02
    assert backlog.chunks() == 3
    assert backlog.since == pytest.approx(100.12)  # the seventh piece completes 130 samples
    assert backlog.due == pytest.approx(100.12, abs=0.021)
    backlog.take(1)
    assert backlog.since == pytest.approx(100.22)
    backlog.take(2)
    assert backlog.chunks() == 0


def test_audio_from_a_file_is_not_urgent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 50.0)
    backlog = Backlog(RECOGNIZER, np.zeros(0, np.float32), 0)
    for _ in range(10):
        backlog.append(np.zeros(1000, np.float32))
    backlog.take(16)
    assert backlog.due > 51.0
    assert backlog.seconds == pytest.approx(8.34)
    backlog.clear()
    assert backlog.waiting == 0 and not len(backlog.peek())


@given(sizes=st.lists(st.integers(1, 400), max_size=20))
def test_what_is_wanted_makes_a_chunk_whole_and_no_sample_less(sizes: list[int]) -> None:
    backlog = Backlog(RECOGNIZER, np.zeros(0, np.float32), 0)
    for size in sizes:
        backlog.append(np.zeros(size, np.float32))
        chunks, wanted = backlog.chunks(), backlog.wanted
        assert 0 < wanted <= 130 and backlog.chunks(backlog.end + wanted) == chunks + 1
        assert backlog.chunks(backlog.end + wanted - 1) == chunks
        if chunks:
            backlog.take(1)
