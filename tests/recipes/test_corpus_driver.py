import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from riverrun.recipes.corpora.driver import Summary
from riverrun.recipes.corpora.errors import CorpusError
from riverrun.recipes.corpora.packed import PackedCorpus
from riverrun.recipes.corpora.part import Part, whole_lines
from riverrun.recipes.corpora.synthetic.__main__ import main
from riverrun.recipes.corpora.synthetic.engine import Voice
from riverrun.recipes.corpora.synthetic.render import Rendering
from riverrun.recipes.corpora.synthetic.script import Line
from riverrun.recipes.corpora.synthetic.speak import speak
from riverrun.recipes.corpora.synthetic.voices import Cast, Variation

from .fake_engine import FakeEngine

CAST = Cast(
    language="en", seed=1, max_seconds=20, voices=[Voice(id, "fake", id) for id in ("a", "b")], shares={"fake": 1}, hold_out=None,
    style=Variation(), rendering=Rendering(),
)  # fmt: skip
SENTENCES = ["the first sentence", "a second one", "number three is here", "four four four"]


def run(
    root: Path, out: Path, sentences: list[str], jobs: int = 1, progress: Callable[[int, int], None] | None = None, **extra: str
) -> Summary:
    lines = [Line(sentence, extra) for sentence in sentences]
    return speak(lines, CAST, root, out, jobs=jobs, about={"name": "a test"}, engines={"fake": FakeEngine}, patience_s=2, progress=progress)


def test_a_corpus_survives_crashes_hangs_and_refusals_and_reads_back(tmp_path: Path) -> None:
    out = tmp_path / "out"
    sentences = [SENTENCES[0], "please crash now", SENTENCES[1], "now hang on", "you may refuse it", "this is misread", SENTENCES[2]]
    seen: list[tuple[int, int]] = []
    summary = run(tmp_path, out, sentences, jobs=2, progress=lambda done, of: seen.append((done, of)), translation="ja")
    assert (summary.clips, summary.skipped) == (3, 4)
    assert seen[-1] == (7, 7)
    reasons = {row["sentence"]: row["reason"] for row in whole_lines(out / "skipped.jsonl")}
    assert "crashed or hung" in reasons["please crash now"]
    assert "crashed or hung" in reasons["now hang on"]
    assert reasons["you may refuse it"].endswith("refused")
    assert "something else" in reasons["this is misread"]
    corpus = PackedCorpus(out)
    assert not corpus.skipped
    assert {utterance.text for utterance in corpus} == {SENTENCES[0], SENTENCES[1], SENTENCES[2]}
    for utterance in corpus:
        assert " ".join(word for word, _, _ in utterance.row["words"]) == utterance.text
        assert utterance.row["duration"] == pytest.approx(utterance.samples / 16000, abs=1e-3)
        assert utterance.row["translation"] == "ja"
        assert np.abs(corpus.samples_of(utterance)).max() > 500
    assert not list(out.glob("scratch-*"))


def test_the_same_command_goes_on_where_a_run_broke_off(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(tmp_path, whole, SENTENCES)
    rows = whole_lines(whole / "manifest.jsonl")
    broken.mkdir()
    (broken / "left-000.jsonl").write_text('{"id": 9')
    (broken / "plan.json").write_bytes((whole / "plan.json").read_bytes())
    kept = (whole / "audio-000.raw").read_bytes()[: rows[2]["offset"] + 11]
    (broken / "audio-000.raw").write_bytes(kept)
    lines = [json.dumps(row) + "\n" for row in rows]
    (broken / "part-000.jsonl").write_text(lines[0] + lines[1] + lines[2][:40])
    (tmp_path / "spoken.txt").unlink()
    assert run(tmp_path, broken, SENTENCES).clips == 4
    assert (tmp_path / "spoken.txt").read_text().splitlines() == SENTENCES[2:]
    assert (broken / "audio-000.raw").read_bytes() == (whole / "audio-000.raw").read_bytes()
    assert (broken / "manifest.jsonl").read_bytes() == (whole / "manifest.jsonl").read_bytes()


def test_a_finished_corpus_is_not_made_again(tmp_path: Path) -> None:
    first = run(tmp_path, tmp_path / "out", SENTENCES[:1])
    (tmp_path / "spoken.txt").unlink()
    assert run(tmp_path, tmp_path / "out", SENTENCES[:1]) == first
    assert not (tmp_path / "spoken.txt").exists()


def test_two_corpora_do_not_share_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(tmp_path, out, SENTENCES[:1])
    with pytest.raises(CorpusError, match="other utterances"):
        run(tmp_path, out, SENTENCES)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(CorpusError, match="holds other files"):
        run(tmp_path, tmp_path / "full", SENTENCES)


def test_an_engine_that_is_not_there_ends_the_run_with_its_reason(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no fake engine"):
        run(tmp_path / "nowhere", tmp_path / "out", SENTENCES)


def test_workers_that_crash_again_and_again_end_the_run(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="5 times in a row"):
        run(tmp_path, tmp_path / "out", [f"crash {word}" for word in ["a", "b", "c", "d", "e", "f", "g"]])


def test_a_part_is_cut_back_to_its_last_whole_clip(tmp_path: Path) -> None:
    with Part(tmp_path, 3) as part:
        part.add(np.arange(5, dtype=np.int16), {"id": 0})
    with (tmp_path / "audio-003.raw").open("ab") as raw, (tmp_path / "part-003.jsonl").open("a") as lines:
        raw.write(b"xyz")
        lines.write('{"id": 1, "of')
    with Part(tmp_path, 3) as part:
        part.add(np.arange(2, dtype=np.int16), {"id": 2})
    rows = whole_lines(tmp_path / "part-003.jsonl")
    assert [(row["id"], row["offset"], row["samples"]) for row in rows] == [(0, 0, 5), (2, 10, 2)]
    assert (tmp_path / "audio-003.raw").stat().st_size == 14


def test_the_command_names_what_is_wrong_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.txt"
    text.write_text("12 34\n")
    for arguments, message in (
        (["--text", str(text)], "no sentence that can be spoken"),
        (["--text", str(tmp_path / "none")], "no such file"),
        (["--text", str(text), "--engines", "nobody"], "no engine nobody; it has espeak"),
        (["--text", str(text), "--config", str(tmp_path / "none.yaml")], "none.yaml"),
    ):
        assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_the_command_without_engines_says_which_file_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text.txt").write_text("say this\n")
    arguments = ["--text", str(tmp_path / "text.txt"), "--out", str(tmp_path / "out"), "--root", str(tmp_path), "--jobs", "1"]
    assert main(arguments) == 2
    assert "needs the Debian packages" in capsys.readouterr().err
