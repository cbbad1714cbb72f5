import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lhotse import AudioSource, CutSet, Recording, RecordingSet, SupervisionSegment, SupervisionSet, validate

from riverrun.recipes.corpora import command
from riverrun.recipes.corpora.convert import main
from riverrun.recipes.corpora.lhotse import Lhotse
from riverrun.recipes.corpora.packed import PackedCorpus, PackWriter
from riverrun.recipes.corpora.part import whole_lines
from riverrun.speech.audio import write_audio
from riverrun.speech.manifest import Entry, ManifestError, read_lhotse, read_manifest, write_lhotse, write_manifest

from .publishers import tone

EXTRA: dict[str, Any] = {
    "lang": "en", "speaker": "x", "gender": "female", "words": [["two", 0.1, 0.4], ["words", 0.45, 0.9]], "translation": "zwei Wörter",
    "target_lang": "de", "age": 30,
}  # fmt: skip


def entries(folder: Path) -> list[Entry]:
    return [
        Entry("a/1", tone(folder / "a.wav", 16000, 1.0), "Two words.", 1.0, EXTRA),
        Entry("b", tone(folder / "b.flac", 44100, 0.5), "", 0.5, {}),
        Entry("c", tone(folder / "c.ogg", 8000, 0.25), "c", 0.25, {"lang": "de"}),
    ]


def test_lhotse_reads_what_we_write_and_we_read_it_back(tmp_path: Path) -> None:
    given = entries(tmp_path)
    write_manifest(tmp_path / "m.jsonl", given)
    assert main(["to-lhotse", str(tmp_path / "m.jsonl"), "--out", str(tmp_path / "l")]) == 0
    cuts, recordings, supervisions = (
        kind.from_file(tmp_path / f"l/{name}.jsonl.gz")
        for kind, name in ((CutSet, "cuts"), (RecordingSet, "recordings"), (SupervisionSet, "supervisions"))
    )
    for one in (cuts, recordings, supervisions):
        validate(one)
    assert [cut.load_audio().shape for cut in cuts] == [(1, 16000), (1, 22050), (1, 2000)]
    first = next(iter(supervisions))
    assert (first.text, first.language, first.speaker, first.gender) == ("Two words.", "en", "x", "female")
    assert [(item.symbol, item.start, item.end) for item in first.alignment["word"]] == [("two", 0.1, 0.4), ("words", 0.45, 0.9)]
    assert first.custom == {"translation": "zwei Wörter", "target_lang": "de", "age": 30}
    assert main(["from-lhotse", str(tmp_path / "l"), "--out", str(tmp_path / "back.jsonl")]) == 0
    assert read_manifest(tmp_path / "back.jsonl") == given
    (tmp_path / "l/cuts.jsonl.gz").unlink()
    assert read_lhotse(tmp_path / "l") == given


def segments(folder: Path, recording: Recording, *places: tuple[float, float], **more: Any) -> Path:
    """Manifests of parts of a recording, as lhotse's own corpus recipes write them."""
    supervisions = [
        SupervisionSegment(f"s{i}", recording.id, start, seconds, text=f"part {i}", **more) for i, (start, seconds) in enumerate(places)
    ]
    folder.mkdir()
    RecordingSet.from_recordings([recording]).to_file(folder / "x_recordings_all.jsonl.gz")
    SupervisionSet.from_segments(supervisions).to_file(folder / "x_supervisions_all.jsonl.gz")
    return folder


def test_parts_of_recordings_are_packed_and_not_listed(tmp_path: Path) -> None:
    ramp = (np.arange(32000) / 32768).astype(np.float32)
    write_audio(tmp_path / "talk.wav", ramp, 16000)
    source = segments(tmp_path / "m", Recording.from_file(tmp_path / "talk.wav"), (0.25, 0.5), (1.0, 1.0), speaker="y")
    with pytest.raises(ManifestError, match="s0 is a part of the recording talk; make a packed corpus"):
        read_lhotse(source)
    assert command.main(Lhotse, ["--source", str(source), "--out", str(tmp_path / "p"), "--jobs", "1", "--lang", "fr"]) == 0
    packed = PackedCorpus(tmp_path / "p")
    assert [(one.text, one.row["id"], one.row["speaker"], one.row["lang"]) for one in packed] == [
        ("part 0", "s0", "y", "fr"),
        ("part 1", "s1", "y", "fr"),
    ]
    assert [(packed.samples_of(one)[0], one.samples) for one in packed] == [(4000, 8000), (16000, 16000)]


def test_what_is_no_plain_file_is_named(tmp_path: Path) -> None:
    stereo = np.stack([np.full(16000, 0.1), np.full(16000, -0.1)], axis=1).astype(np.float32)
    write_audio(tmp_path / "stereo.wav", stereo, 16000)
    tone(tmp_path / "mono.wav", 16000)
    mono = Recording.from_file(tmp_path / "mono.wav")
    command_line = Recording("piped", [AudioSource("command", [0], f"cat {tmp_path}/mono.wav")], 16000, 16000, 1.0)
    for name, recording, reason in (
        ("channel", Recording.from_file(tmp_path / "stereo.wav"), "it is some channels of several"),
        ("speed", mono.perturb_speed(1.1), "its recording is transformed"),
        ("command", command_line, 'of type "command"'),
    ):
        source = segments(tmp_path / name, recording, (0.0, recording.duration), channel=0)
        with pytest.raises(ManifestError, match=reason):
            read_lhotse(source)
    source = segments(tmp_path / "mixed", mono, (0.0, mono.duration))
    cuts = CutSet.from_manifests(
        RecordingSet.from_file(source / "x_recordings_all.jsonl.gz"), SupervisionSet.from_file(source / "x_supervisions_all.jsonl.gz")
    )
    cut = next(iter(cuts))
    CutSet.from_cuts([cut.mix(cut.drop_supervisions().with_id("other"), snr=10)]).to_file(tmp_path / "mixed.jsonl")
    with pytest.raises(ValueError, match="not one utterance could be used: it is mixed"):
        options = command.parser(Lhotse).parse_args(
            ["--source", str(tmp_path / "mixed.jsonl"), "--out", str(tmp_path / "p"), "--jobs", "1"]
        )
        command.pack(Lhotse, options)


def test_bad_input_is_named_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad.jsonl").write_text('{"id": 1}\n')
    (tmp_path / "two").mkdir()
    for name in ("cuts_a.jsonl", "cuts_b.jsonl"):
        (tmp_path / "two" / name).touch()
    write_manifest(tmp_path / "gone.jsonl", [Entry("a", tmp_path / "gone.wav", "x")])
    out = str(tmp_path / "out")
    for arguments, message in (
        (["from-lhotse", str(tmp_path / "none")], "no lhotse manifests; give a file of cuts"),
        (["from-lhotse", str(tmp_path / "two")], "has both cuts_a.jsonl and cuts_b.jsonl"),
        (["from-lhotse", str(tmp_path / "bad.jsonl")], "not lhotse's"),
        (["to-lhotse", str(tmp_path / "gone.jsonl")], "gone.wav: cannot be read"),
        (["to-files", str(tmp_path)], "it has no manifest.jsonl"),
    ):
        assert main([*arguments, "--out", out]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    monkeypatch.setitem(sys.modules, "lhotse", None)
    with pytest.raises(ManifestError, match=r"pip install 'riverrun\[lhotse\]'"):
        write_lhotse(tmp_path, [])


def test_a_packed_corpus_becomes_files_with_a_manifest(tmp_path: Path) -> None:
    writer = PackWriter(tmp_path / "pack")
    clips = [np.arange(start, start + 1600, dtype=np.int16) for start in (0, 1000)]
    for index, clip in enumerate(clips):
        writer.add(clip, {"id": f"x/{index}", "text": f"clip {index}", **EXTRA})
    writer.close()
    for _ in range(2):
        assert main(["to-files", str(tmp_path / "pack"), "--out", str(tmp_path / "files")]) == 0
    read = read_manifest(tmp_path / "files/manifest.jsonl")
    assert [(one.id, one.text, one.duration, one.extra) for one in read] == [(f"x/{i}", f"clip {i}", 0.1, EXTRA) for i in range(2)]
    assert [one.audio.name for one in read] == ["0000000-x_0.flac", "0000001-x_1.flac"]
    rows = whole_lines(tmp_path / "pack/manifest.jsonl")
    rows[1]["samples"] = 10**6
    (tmp_path / "pack/manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["to-files", str(tmp_path / "pack"), "--out", str(tmp_path / "files2")]) == 2
