"""The shipped model on real speech: five paths, the same text."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from riverrun.speech import SpeechModel, load
from riverrun.speech.audio import read_audio
from riverrun.speech.manifest import Entry, read_manifest
from riverrun.speech.metrics import Edits, word_edits
from riverrun.speech.text import normalise
from riverrun.streaming import Final, Partial

ENTRIES = read_manifest(Path(__file__).parent.parent / "data" / "clips.jsonl")


@pytest.fixture(scope="module")
def model() -> SpeechModel:
    return load("default")


@pytest.mark.parametrize("search", ["greedy", "beam"])
@pytest.mark.parametrize("entry", ENTRIES[::2], ids=lambda e: e.id)
def test_whole_pieces_and_resumed_agree(model: SpeechModel, entry: Entry, search: str) -> None:
    audio = read_audio(entry.audio)
    recognizer = model.recognizer(320, search)
    whole = recognizer.reader().finish(recognizer.whole(torch.from_numpy(audio)[None], torch.tensor([len(audio)])), 0)
    texts = [e.text for e in whole if isinstance(e, Final)]
    assert [s.text for s in model.transcribe(entry.audio, latency_ms=320, search=search).segments] == texts
    random, stream, events, at = np.random.default_rng(1), model.stream(latency_ms=320, search=search), [], 0
    while at < len(audio):
        size = int(random.integers(1, 12000))
        events += stream.push(audio[at : at + size])
        at += size
        saved, stream = stream.save(), model.stream(latency_ms=320, search=search)
        stream.restore(saved)
    events += stream.finish()
    assert [e.text for e in events if isinstance(e, Final)] == texts
    assert any(isinstance(e, Partial) for e in events), "a live stream shows text before its end"


def test_batch_agrees(model: SpeechModel) -> None:
    recognizer = model.recognizer(640)
    clips = [read_audio(e.audio) for e in ENTRIES]
    lengths = torch.tensor([len(c) for c in clips])
    audio = torch.zeros(len(clips), int(lengths.max()))
    for row, clip in zip(audio, clips, strict=True):
        row[: len(clip)] = torch.from_numpy(clip)
    heard = recognizer.whole(audio, lengths)
    for s, entry in enumerate(ENTRIES):
        together = " ".join(e.text for e in recognizer.reader().finish(heard, s) if isinstance(e, Final))
        assert together == model.transcribe(entry.audio, latency_ms=640).text


def test_pipe_agrees(model: SpeechModel) -> None:
    audio = read_audio(ENTRIES[0].audio)
    pcm = (np.clip(audio, -1, 1) * 32767).astype("<i2")
    command = [sys.executable, "-c", "from riverrun.cli.main import main; main()", "transcribe", "-", "--latency", "640"]
    said = subprocess.run(command, input=pcm.tobytes(), capture_output=True, check=True).stdout.decode()
    assert said.split() == model.transcribe(pcm.astype(np.int16), latency_ms=640).text.split()


def test_it_follows_real_speech(model: SpeechModel) -> None:
    edits = [word_edits(normalise(e.text), normalise(model.transcribe(e.audio).text)) for e in ENTRIES]
    assert sum(edits, Edits()).rate < 0.7


def test_words_have_times_and_confidences(model: SpeechModel) -> None:
    heard = model.transcribe(ENTRIES[0].audio)
    assert all(0 <= w.start <= w.end <= heard.duration + 0.1 and 0 < w.confidence <= 1 for w in heard.words)
    assert [w.start for w in heard.words] == sorted(w.start for w in heard.words)


def test_alternatives_are_ordered_and_differ(model: SpeechModel) -> None:
    found = model.nbest(ENTRIES[0].audio, n=4)
    assert len({a.text for a in found}) == len(found) == 4
    assert [a.log_prob for a in found] == sorted((a.log_prob for a in found), reverse=True)


def test_alternatives_are_for_short_recordings(model: SpeechModel) -> None:
    with pytest.raises(ValueError, match="alternatives are for recordings of at most 30 s; this one has 31 s"):
        model.nbest(np.zeros(31 * 16000, np.float32))
    with pytest.raises(ValueError, match="a beam of 2 cannot give 3 texts"):
        model.nbest(np.zeros(16000, np.float32), n=3, beam=2)
