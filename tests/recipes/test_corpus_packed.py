import json
from pathlib import Path

import numpy as np
import pytest

from riverrun.recipes.corpora.packed import PackedCorpus, PackWriter


def test_what_is_written_reads_back(tmp_path: Path) -> None:
    writer = PackWriter(tmp_path / "pack")
    clips = [np.arange(start, start + 50, dtype=np.int16) for start in (0, 1000)]
    for index, clip in enumerate(clips):
        writer.add(clip, {"text": f"clip {index}", "speaker": "s"})
    assert not (tmp_path / "pack/manifest.jsonl").exists()
    writer.close()
    corpus = PackedCorpus(tmp_path / "pack")
    assert len(corpus) == 2
    assert not corpus.skipped
    for utterance, clip in zip(corpus, clips, strict=True):
        assert np.array_equal(corpus.samples_of(utterance), clip)
        assert utterance.row["speaker"] == "s"


def test_corrupt_entries_are_left_out_and_named(tmp_path: Path) -> None:
    np.arange(100, dtype=np.int16).tofile(tmp_path / "audio.raw")
    good: dict[str, object] = {"audio": "audio.raw", "offset": 20, "samples": 30, "text": "good"}
    bad: list[dict[str, object]] = [
        {"offset": 21}, {"samples": 0}, {"samples": 91}, {"offset": 190}, {"audio": "../audio.raw"}, {"audio": "none.raw"},
        {"samples": "x"},
    ]  # fmt: skip
    lines = [json.dumps({**good, **change}) for change in bad] + ["{", '{"audio": "audio.raw"}', json.dumps(good)]
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    corpus = PackedCorpus(tmp_path)
    assert [utterance.text for utterance in corpus] == ["good"]
    assert np.array_equal(corpus.samples_of(next(iter(corpus))), np.arange(10, 40))
    assert [problem.split(":")[0] for problem in corpus.skipped] == [f"line {number}" for number in range(1, 10)]


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no manifest.jsonl"):
        PackedCorpus(tmp_path)
    (tmp_path / "manifest.jsonl").write_text("{\n")
    with pytest.raises(ValueError, match="no usable utterance"):
        PackedCorpus(tmp_path)
