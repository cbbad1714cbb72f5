"""Formats, read back by readers that others wrote, and as exact bytes."""

import json
from html import unescape
from pathlib import Path

import pysubs2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from praatio import textgrid
from rich.cells import cell_len

from riverrun.cli.formats import FORMATS
from riverrun.cli.formats.cues import LINE, cues
from riverrun.cli.formats.timeline import lay_out
from riverrun.streaming.events import Final, Transcript, Word

GOLDEN = Path(__file__).parent / "golden"


def segment(index, *words):
    return Final(index, " ".join(w.text for w in words), words, words[0].start, words[-1].end)


TALK = Transcript(
    (
        segment(0, Word("Où", 0.32, 0.5, 0.91), Word("est", 0.5, 0.62, 0.99), Word('"R&B"', 0.62, 1.204, 0.5)),
        Final(1, ""),
        segment(2, Word("a", 2.0, 2.0, 1.0), Word("<b>", 2.0, 2.5, 0.25), Word("東京", 2.4, 3.0, 0.125)),
    ),
    4.0,
)
EMPTY = Transcript((), 0.0)


def render(name, transcript=TALK):
    return FORMATS[name].render(transcript, "my talk.wav")


@pytest.mark.parametrize("name", FORMATS)
def test_exact_bytes(name):
    assert render(name).encode() == (GOLDEN / f"talk{FORMATS[name].suffix}").read_bytes()


@pytest.mark.parametrize(("name", "expected"), [("txt", ""), ("srt", ""), ("vtt", "WEBVTT\n"), ("ctm", "")])
def test_nothing_said(name, expected):
    assert render(name, EMPTY) == expected


def test_json_of_nothing():
    assert json.loads(render("json", EMPTY)) == {"version": 1, "audio": "my talk.wav", "duration": 0.0, "text": "", "segments": []}


def tiers(text, tmp_path):
    path = tmp_path / "t.TextGrid"
    path.write_text(text, encoding="utf-8")
    grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=True, reportingMode="error")
    assert grid.validate("error")
    return grid


def test_textgrid_by_praatio(tmp_path):
    grid = tiers(render("textgrid"), tmp_path)
    words = grid.getTier("words").entries
    assert [e.label for e in words if e.label] == ["Où", "est", '"R&B"', "a", "<b>", "東京"]
    assert [e.label for e in grid.getTier("segments").entries] == ["", 'Où est "R&B"', "", "a <b> 東京", ""]
    assert words[0].start == 0 and words[-1].end == grid.maxTimestamp == 4.0
    assert all(a.end == b.start for a, b in zip(words, words[1:], strict=False))


def test_textgrid_of_nothing(tmp_path):
    grid = tiers(render("textgrid", EMPTY), tmp_path)
    assert [e.label for e in grid.getTier("words").entries] == [""]


@pytest.mark.parametrize("name", ["srt", "vtt"])
def test_subtitles_by_pysubs2(name):
    options = {"keep_html_tags": True, "keep_unknown_html_tags": True} if name == "srt" else {}
    subs = pysubs2.SSAFile.from_string(render(name), format_=name, **options)
    expected = cues(TALK)
    assert [(e.start, e.end) for e in subs] == [(c.start, c.end) for c in expected]
    assert [unescape(e.text).replace(r"\N", "\n") for e in subs] == ["\n".join(c.lines) for c in expected] == ['Où est "R&B"', "a <b> 東京"]


def sentence(texts, start=0.0, step=0.4):
    return segment(0, *(Word(t, start + i * step, start + i * step + step * 0.9, 1.0) for i, t in enumerate(texts)))


def test_cues_break_at_sentences_and_pauses():
    river = "how does a river know its way down from the hills to the sea"
    first = sentence(f"we began with one question. {river}".split(), step=0.3)
    later = sentence(["it", "does", "not"], start=first.end + 2.0)
    found = cues(Transcript((first, later), 20.0))
    assert [" ".join(c.lines) for c in found] == ["we began with one question.", river, "it does not"]
    assert found[1].end < found[2].start


def test_two_balanced_lines():
    fox = "the quick brown fox jumps over the lazy dog and runs away"
    (cue,) = cues(Transcript((sentence(fox.split(" "), step=0.2),), 5.0))
    assert len(cue.lines) == 2 and abs(len(cue.lines[0]) - len(cue.lines[1])) <= 8


def test_word_longer_than_a_cue_is_cut():
    long = "x" * 200
    found = cues(Transcript((segment(0, Word(long, 0.0, 6.0, 1.0)),), 6.0))
    assert "".join(line for cue in found for line in cue.lines) == long


def test_writing_without_spaces_stays_so():
    words = (Word("東京", 0.0, 0.5, 1.0), Word("タワー", 0.5, 1.0, 1.0))
    (cue,) = cues(Transcript((Final(0, "東京タワー", words, 0.0, 1.0),), 1.0))
    assert cue.lines == ("東京タワー",)


def test_text_without_word_times_shares_the_segment():
    transcript = Transcript((Final(0, "ab cdefgh", (), 1.0, 5.0),), 6.0)
    assert render("ctm", transcript) == "my_talk.wav 1 1.000 1.000 ab 1.000\nmy_talk.wav 1 2.000 3.000 cdefgh 1.000\n"


times = st.floats(0, 30, allow_nan=False).map(lambda t: round(t, 3))
word = st.builds(
    lambda text, start, length: Word(text, start, start + length, 0.5),
    st.text(st.characters(exclude_categories=["C", "Z", "M"]), min_size=1, max_size=60),
    times,
    st.sampled_from([0.0, 0.001, 0.3, 1.0, 9.0]),
)
segments = st.lists(st.lists(word, min_size=1, max_size=12).map(lambda ws: sorted(ws, key=lambda w: w.start)), max_size=4)


@settings(max_examples=60, deadline=None)
@given(segments)
def test_any_cues_can_be_read(parts):
    transcript = Transcript(tuple(segment(i, *words) for i, words in enumerate(parts)), 40.0)
    found = cues(transcript)
    assert "".join("".join(c.lines) for c in found).replace(" ", "") == "".join(w.text for w in transcript.words)
    for cue in found:
        assert 1 <= len(cue.lines) <= 2 and all(cell_len(line) <= LINE for line in cue.lines)
        assert 0 < cue.end - cue.start <= 7000
    assert all(a.end <= b.start for a, b in zip(found, found[1:], strict=False))


@given(st.lists(st.tuples(times, times)))
def test_laid_out_spans_are_disjoint(spans):
    laid = lay_out(spans)
    assert len(laid) == len(spans) and all(start < end for start, end in laid)
    assert all(a[1] <= b[0] for a, b in zip(laid, laid[1:], strict=False))
