"""Normalisation, error rates, word delays, manifests."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riverrun.speech.manifest import Entry, ManifestError, read_manifest, write_manifest
from riverrun.speech.metrics import Edits, WordDelay, bootstrap_interval, character_edits, word_delays, word_edits
from riverrun.speech.text import normalise
from riverrun.streaming.events import Endpoint, Final, Partial, Word


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don\u2019t — stop,  the ROCK 'n' roll!", "don't stop the rock n roll"),
        ("'Tis the dogs' 24-hour café\u00a0…", "tis the dogs 24 hour café"),
        ("ﬁne cafe\u0301 １２", "fine café 12"),
        ("naïve\u200bté\t\n", "naïveté"),
        ("$5 & 3°", "5 3"),
        ("", ""),
        ("हिन्दी भाषा।", "हिन्दी भाषा"),
    ],
)
def test_normalise(text, expected):
    assert normalise(text) == expected


def test_turkish_lower_case():
    assert normalise("IŞIK İYİ", "tr") == "ışık iyi"


@given(st.text())
def test_normalise_settles(text):
    once = normalise(text)
    assert once == " ".join(once.split()) and normalise(once) == once


def distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


texts = st.lists(st.sampled_from("abc"), max_size=8).map(" ".join)


@given(texts, texts)
def test_edits_are_levenshtein(reference, hypothesis):
    words, characters = word_edits(reference, hypothesis), character_edits(reference, hypothesis)
    assert words.errors == distance(reference.split(), hypothesis.split()) and words.reference == len(reference.split())
    assert characters.errors == distance(reference, hypothesis) and characters.reference == len(reference)
    assert words.deletions - words.insertions == len(reference.split()) - len(hypothesis.split())


def test_rates_add_up():
    assert Edits(1, 2, 3, 12) + Edits(1, 0, 0, 8) == Edits(2, 2, 3, 20)
    assert (Edits(1, 2, 3, 12).rate, Edits().rate, Edits(insertions=2).rate) == (0.5, 0.0, 1.0)


def test_bootstrap_interval():
    parts = [Edits(substitutions=i % 3, reference=10) for i in range(300)]
    low, high = bootstrap_interval(parts)
    assert bootstrap_interval(parts) == (low, high) and low < 0.1 < high
    # The standard error of the mean of 300 values uniform on {0, 0.1, 0.2} is 0.0047.
    assert high - low == pytest.approx(2 * 1.96 * 0.0047, rel=0.1)
    assert bootstrap_interval([Edits(1, 0, 0, 4)]) == (0.25, 0.25)


def test_word_delays():
    def words(*texts):
        return tuple(Word(t, i, i + 0.5, 1.0) for i, t in enumerate(texts))

    heard = [
        (0.6, Partial(0, "the", words("the"))),
        (1.6, Partial(0, "a can", words("a", "can"))),
        (2.0, Partial(0, "the cat", words("the", "cat"))),
        (2.5, Endpoint(0, 1.5, "pause")),
        (2.5, Final(0, "the cat sat", words("the", "cat", "sat"), 0.0, 2.5)),
    ]
    expected = [(0.1, 1.5), (0.5, 0.5), (0.0, 0.0)]
    delays = word_delays(heard)
    assert all(isinstance(delay, WordDelay) for delay in delays)
    assert [(d.first, d.settled) for d in delays] == [pytest.approx(pair) for pair in expected]


def test_manifest_round_trip(tmp_path):
    entries = [
        Entry("a", tmp_path / "wav" / "ü.wav", "Grüße", 1.5, {"speaker": "x"}),
        Entry("b", Path("/elsewhere/b.wav"), ""),
    ]
    write_manifest(tmp_path / "m.jsonl", entries)
    lines = (tmp_path / "m.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[0]) == {"id": "a", "audio": "wav/ü.wav", "text": "Grüße", "duration": 1.5, "speaker": "x"}
    assert read_manifest(tmp_path / "m.jsonl") == entries
    assert [p.name for p in tmp_path.iterdir()] == ["m.jsonl"]


GOOD = '{"id": "a", "audio": "a.wav", "text": "x"}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"{GOOD}\n\n{{", "m.jsonl: line 3: not JSON ("),
        (f"[1]\n{GOOD}", "m.jsonl: line 1: not an object"),
        ('{"id": "a", "audio": "a.wav"}', 'm.jsonl: line 1: "text" is missing'),
        ('{"id": 3, "audio": "a.wav", "text": ""}', 'm.jsonl: line 1: "id" is no text'),
        ('{"id": "a", "audio": "", "text": ""}', 'm.jsonl: line 1: "audio" is empty'),
        ('{"id": "a", "audio": "a", "text": "", "duration": "long"}', 'm.jsonl: line 1: "duration" is no number of seconds'),
        (f"{GOOD}\n{GOOD}\n{{\n[]", 'm.jsonl: line 2: id "a" stands on line 1 already (and 2 more broken lines)'),
        ("\n", "m.jsonl: no entries; every line is to be"),
    ],
)
def test_broken_manifests(tmp_path, content, message):
    path = tmp_path / "m.jsonl"
    path.write_text(content)
    with pytest.raises(ManifestError) as error:
        read_manifest(path)
    assert str(error.value).removeprefix(f"{tmp_path}/").startswith(message) and "\n" not in str(error.value)


def test_manifest_that_is_not_there_or_not_text(tmp_path):
    with pytest.raises(ManifestError, match="no such manifest"):
        read_manifest(tmp_path / "gone.jsonl")
    with pytest.raises(ManifestError, match="is a directory"):
        read_manifest(tmp_path)
    (tmp_path / "m.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(ManifestError, match="not UTF-8 at byte 0"):
        read_manifest(tmp_path / "m.jsonl")
