import fcntl
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from riverrun.recipes.corpora.command import main
from riverrun.recipes.corpora.commonvoice import CommonVoice
from riverrun.recipes.corpora.decoder import Decoder
from riverrun.recipes.corpora.errors import CorpusError
from riverrun.recipes.corpora.librispeech import LibriSpeech
from riverrun.recipes.corpora.ljspeech import LjSpeech
from riverrun.recipes.corpora.manifest import OwnLayout
from riverrun.recipes.corpora.mustc import MustC
from riverrun.recipes.corpora.packed import PackedCorpus
from riverrun.recipes.corpora.part import whole_lines
from riverrun.recipes.corpora.reader import Limits, Reader, Recorded, collect

from . import publishers
from .publishers import tone, write

PLACE = {"audio", "offset", "samples"}


def rows(out: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in PLACE} for row in whole_lines(out / "manifest.jsonl")]


@pytest.mark.parametrize(
    ("corpus", "layout", "options", "expected", "skipped"),
    [
        (
            LjSpeech,
            publishers.ljspeech,
            [],
            [{"id": "LJ001-0001", "text": "twelve men,", "written": "12 men,", "lang": "en", "speaker": "lj", "duration": 1.0}],
            {
                "LJ001-0002": "no such file",
                "LJ001-0003": "not audio of a kind that can be read",
                "LJ001-0004": "its sample rate is 16000 Hz, all of the corpus have 22050",
                "LJ001-0005": "line 5 of metadata.csv has 2 columns, not 3",
                "LJ001-0006": "it has no text",
                "LJ001-0007": "it is silent",
                "LJ001-0008": "65 characters in 1.00 s: the text is not what is said",
            },
        ),
        (
            LibriSpeech,
            publishers.librispeech,
            ["--split", "dev-clean", "dev-other"],
            [
                {
                    "id": "84-121123-0000", "text": "GO DO YOU HEAR", "lang": "en", "speaker": "84", "gender": "female",
                    "chapter": "121123", "split": "dev-clean", "duration": 1.0,
                },
                {
                    "id": "700-1-0000", "text": "AND SO ON", "lang": "en", "speaker": "700", "chapter": "1", "split": "dev-other",
                    "duration": 1.0,
                },
            ],
            {
                "84-121123-0001": "",
                "84-121123-0002": "no such file",
                "84-121123-0003": "84-121123.trans.txt has no text for it",
            },
        ),
        (
            CommonVoice,
            publishers.commonvoice,
            [],
            [
                {
                    "id": "a", "text": 'Hij zei: "Ja."', "lang": "nl", "speaker": "c1", "age": "thirties", "gender": "male",
                    "duration": 1.0,
                },
                {"id": "b", "text": "Zonder achtervoegsel", "lang": "nl", "speaker": "c2", "duration": 1.0},
            ],
            {
                "c": "its votes are 2 for, 2 against it",
                "d": "it has no text",
                "e": "its path leads out of the folder of clips",
                "train.tsv, line 7": "it has 3 columns, not 8",
                "g": "it lasts 1.00 s, and should 5.00",
                "a": "its id occurs twice",
            },
        ),
        (
            MustC,
            publishers.mustc,
            ["--split", "dev", "--target", "de"],
            [
                {
                    "id": "ted_1_0", "text": "Thank you.", "translation": "Danke.", "target_lang": "de", "lang": "en", "speaker": "spk.1",
                    "talk": "ted_1", "duration": 1.5,
                },
                {
                    "id": "ted_1_2", "text": "It’s late.", "translation": "Es ist spät.", "target_lang": "de", "lang": "en",
                    "speaker": "spk.2", "talk": "ted_1", "duration": 2.0,
                },
            ],
            {
                "ted_1_1": "it has no words, only notes",
                "ted_1_3": "the file lasts 6.00 s, this is from 5.00 to 7.00 s",
                "ted_1_4": "it has no translation",
                "ted_2_0": "no such file",
                "dev.yaml, segment 7": "it does not say wav, offset and duration",
                "ted_1_5": "its file lies outside of the folder of talks",
            },
        ),
        (
            OwnLayout,
            publishers.own,
            ["--licence", "CC0", "--url", "x"],
            [
                {"id": "a", "text": "One.", "lang": "en", "speaker": "x", "mood": "calm", "duration": 1.0},
                {"id": "d", "text": "Two.", "lang": "en", "speaker": "y", "duration": 1.0},
                {"id": "e", "text": "Three.", "lang": "en", "speaker": "z", "duration": 1.0},
            ],
            {
                "manifest.jsonl, line 2": "it is no JSON (expecting property name enclosed in double quotes at column 2)",
                "b": "it has no text",
                "c": "its text or duration is of the wrong type",
                "manifest.jsonl, line 5": 'it is no object {"id": …, "audio": …, "text": …}',
            },
        ),
    ],
    ids=lambda value: value.name if isinstance(value, type) else None,
)  # fmt: skip
def test_a_publishers_layout_becomes_a_checked_corpus(
    corpus: type[Reader], layout: Callable[[Path], Path], options: list[str], expected: list[Any], skipped: dict[str, str], tmp_path: Path
) -> None:
    source, out = layout(tmp_path / "source"), tmp_path / "out"
    assert main(corpus, ["--source", str(source), "--out", str(out), "--jobs", "1", *options]) == 0
    got = rows(out)
    for row in got:
        row["duration"] = pytest.approx(row["duration"], abs=0.06)  # mp3 pads
    assert got == expected
    left = {row["id"]: row["reason"] for row in whole_lines(out / "skipped.jsonl")}
    assert left.keys() == skipped.keys()
    for id, reason in skipped.items():
        assert left[id].startswith(reason)
    about = json.loads((out / "about.json").read_text())
    assert (about["name"], about["licence"]) == (corpus.name, "CC0" if "CC0" in options else corpus.licence)
    assert (about["utterances"], about["skipped"]) == (len(expected), len(skipped))
    assert about["manifest_sha256"] == hashlib.sha256((out / "manifest.jsonl").read_bytes()).hexdigest()
    packed = PackedCorpus(out)
    assert not packed.skipped
    for utterance in packed:
        samples = packed.samples_of(utterance).astype(float)
        spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
        assert np.argmax(spectrum) * 16000 / len(samples) == pytest.approx(300, abs=1.5)
        assert samples.std() == pytest.approx(0.3 * 32768 / np.sqrt(2), rel=0.05)


def options(**given: Any) -> Namespace:
    return Namespace(**{"lang": None, "held_out_last": 0, "held_out_speakers": [], "target": "de", **given})


def ids(reader: Reader, split: str) -> list[str]:
    return [one.id for one in collect(reader, [split], Limits())[0]]


def test_splits_of_corpora_without_splits(tmp_path: Path) -> None:
    lj = LjSpeech(publishers.ljspeech(tmp_path), options())
    assert ids(lj, "test") == ["LJ050-0001"]
    assert collect(lj, ["test"], Limits())[0][0].text == "N\u00e4chstes"
    assert ids(lj, "dev") == []
    assert len(ids(lj, "all")) == 7
    folder = publishers.own(tmp_path)
    for held in ({"held_out_last": 1}, {"held_out_speakers": ["z"]}):
        reader = OwnLayout(folder, options(lang="en", **held))
        assert ids(reader, "dev") == ["e"]
        assert ids(reader, "train") == ["a", "d"]
    with pytest.raises(CorpusError, match="no splits of its own; give --held-out-last"):
        collect(OwnLayout(folder, options(lang="en")), ["dev"], Limits())


def test_unlabelled_speech_is_taken_when_asked_for(tmp_path: Path) -> None:
    reader = OwnLayout(publishers.own(tmp_path), options(lang="de"))
    kept, _ = collect(reader, ["all"], Limits(unlabelled=True))
    assert [(one.id, one.text, one.lang) for one in kept] == [
        ("a", "One.", "en"),
        ("b", "", "de"),
        ("d", "Two.", "de"),
        ("e", "Three.", "de"),
    ]


@pytest.mark.parametrize(
    ("corpus", "split", "files", "message"),
    [
        (LjSpeech, "train", {}, "is not laid out like LJ Speech: it has no table of texts"),
        (LjSpeech, "dev-clean", {}, 'has no split "dev-clean"; it has train, dev, test, all'),
        (LjSpeech, "train", {"a/metadata.csv": "", "b/metadata.csv": ""}, "more than one table of texts"),
        (LibriSpeech, "dev-clean", {"dev-clean/README": ""}, "has no <speaker>/<chapter>"),
        (CommonVoice, "dev", {"nl/dev.tsv": "client_id\tpath"}, 'dev.tsv has no column "sentence"; its columns are client_id, path'),
        (
            MustC,
            "dev",
            {"data/dev/txt/dev.yaml": "- {a: 1", "data/dev/txt/dev.en": "", "data/dev/txt/dev.de": ""},
            "dev.yaml: while parsing",
        ),
        (MustC, "dev", {"data/dev/txt/dev.yaml": "a: 1", "data/dev/txt/dev.en": "", "data/dev/txt/dev.de": ""}, "is no list of segments"),
        (
            MustC,
            "dev",
            {"data/dev/txt/dev.yaml": "- 1\n- 2", "data/dev/txt/dev.en": "a", "data/dev/txt/dev.de": "b"},
            "2 segments, 1 English",
        ),
        (MustC, "dev", {"data/dev/txt/dev.yaml": "- 1", "data/dev/txt/dev.en": "a"}, "dev.de: no such file"),
        (OwnLayout, "all", {}, "it has no manifest"),
    ],
)
def test_a_folder_of_another_layout_is_refused_in_one_line(
    corpus: type[Reader], split: str, files: dict[str, str], message: str, tmp_path: Path
) -> None:
    for name, content in files.items():
        write(tmp_path / name, content)
    with pytest.raises(CorpusError) as caught:
        collect(corpus(tmp_path, options()), [split], Limits())
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_audio_is_compared_with_what_is_said_of_it(tmp_path: Path) -> None:
    tone(tmp_path / "a.flac", 16000, 3.0)
    tone(tmp_path / "stereo.wav", 48000, 1.0)
    decoder = Decoder(tmp_path, None, Limits(longest_s=2.5), tmp_path)

    def made(**given: Any) -> float:
        return len(decoder.make(Recorded(**{"id": "x", "audio": "a.flac", "text": "a", "lang": "en", **given}))[0]) / 16000

    assert made(audio="stereo.wav") == 1.0
    assert made(start=1.0) == 2.0
    assert made(start=0.5, seconds=1.0) == 1.0
    for given, message in (
        ({}, "it lasts 3.00 s, not 0.1 to 2.5"),
        ({"start": 0.0, "seconds": 2.8}, "it lasts 2.8 s, more than 2.5"),
        ({"start": 3.5}, "the file lasts 3.00 s, this is from 3.50"),
        ({"start": 0.0, "seconds": 0.05}, "it lasts 0.05 s"),
        ({"audio": "gone.wav", "start": 0.0}, "no such file"),
    ):
        with pytest.raises(CorpusError) as caught:
            made(**given)
        assert message in str(caught.value)


def pack(corpus: type[Reader], *sources: Path, out: Path, more: tuple[str, ...] = ()) -> int:
    return main(corpus, ["--source", *map(str, sources), "--out", str(out), "--jobs", "1", *more])


def test_archives_are_verified_and_unpacked(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    source, out, archive = publishers.librispeech(tmp_path), tmp_path / "out", tmp_path / "dev-clean.tar.gz"
    with tarfile.open(archive, "w:gz") as tape:
        tape.add(source, "LibriSpeech")
    split = ("--split", "dev-clean")
    assert pack(LibriSpeech, archive, out=out, more=split) == 2
    assert "not 42e2234ba48799c1f50f24a7926300a1; fetch it again" in capsys.readouterr().err
    assert pack(LibriSpeech, archive, out=out, more=(*split, "--checksum", "dev-clean.tar.gz")) == 2
    assert "--checksum is to read FILE=KIND:HEX" in capsys.readouterr().err
    assert pack(LibriSpeech, archive, out=out, more=(*split, "--checksum", "dev-clean.tar.gz=crc:1")) == 2
    assert 'a digest is to read "sha256:…"' in capsys.readouterr().err
    monkeypatch.setattr(LibriSpeech, "digests", {})
    assert pack(LibriSpeech, archive, out=out, more=split) == 0
    (record,) = json.loads((out / "about.json").read_text())["archives"]
    assert record["file"] == "dev-clean.tar.gz" and record["bytes"] == archive.stat().st_size and record["verified"] is None
    assert not (out / "unpacked").exists()
    before = (out / "manifest.jsonl").read_bytes()
    verified = ("--checksum", f"dev-clean.tar.gz=sha256:{record['sha256']}")
    assert pack(LibriSpeech, archive, out=tmp_path / "again", more=(*split, *verified)) == 0
    assert json.loads((tmp_path / "again/about.json").read_text())["archives"][0]["verified"] == f"sha256:{record['sha256']}"
    archive.unlink()
    assert pack(LibriSpeech, archive, out=out, more=split) == 0  # it is finished
    assert (out / "manifest.jsonl").read_bytes() == before


def test_archives_that_are_broken_or_reach_outside_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = tmp_path / "a.tar.gz"
    for content, message in ((b"no archive", "damaged"), (None, "no such file")):
        archive.unlink(missing_ok=True)
        if content:
            archive.write_bytes(content)
        assert pack(LjSpeech, archive, out=tmp_path / "out") == 2
        assert message in capsys.readouterr().err
    with tarfile.open(archive, "w:gz") as tape:
        tape.add(write(tmp_path / "x", "x"), "../outside.txt")
    assert pack(LjSpeech, archive, out=tmp_path / "out") == 2
    assert "damaged" in capsys.readouterr().err
    assert not (tmp_path / "out/outside.txt").exists()
    assert pack(LjSpeech, tmp_path, tmp_path, out=tmp_path / "other") == 2
    assert "give one folder, or archives" in capsys.readouterr().err
    assert pack(LjSpeech, tmp_path / "none", out=tmp_path / "other2") == 2
    assert "no such folder or archive" in capsys.readouterr().err
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    assert pack(LjSpeech, tmp_path, out=tmp_path / "full") == 2
    assert "holds other files" in capsys.readouterr().err
    assert pack(LjSpeech, tmp_path, out=tmp_path / "full/file") == 2
    assert "full/file: file exists" in capsys.readouterr().err


def test_other_settings_need_another_folder_unless_nothing_was_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = publishers.librispeech(tmp_path), tmp_path / "out"
    shutil.rmtree(source / "dev-clean/84")
    write(source / "dev-clean/1/2/1-2.trans.txt", "1-2-0000 GONE")
    assert pack(LibriSpeech, source, out=out, more=("--split", "dev-clean")) == 2
    assert "not one utterance could be used: no such file" in capsys.readouterr().err
    assert pack(LibriSpeech, source, out=out, more=("--split", "dev-other")) == 0
    assert pack(LibriSpeech, source, out=out, more=("--split", "dev-other")) == 0
    assert pack(LibriSpeech, source, out=out, more=("--split", "dev-other", "--longest", "3")) == 2
    assert "other utterances or settings" in capsys.readouterr().err
    with (out / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert pack(LibriSpeech, source, out=out, more=("--split", "dev-other")) == 2
    assert "another run is at work in it" in capsys.readouterr().err


def test_a_killed_run_is_taken_up_again(tmp_path: Path) -> None:
    chapter = tmp_path / "LibriSpeech/dev-clean/1/2"
    names = [f"1-2-{number:04d}" for number in range(150)]
    for index, name in enumerate(names):
        tone(chapter / f"{name}.flac", 16000, 0.5 + 0.002 * index)
    write(chapter / "1-2.trans.txt", *(f"{name} A{index}" for index, name in enumerate(names)))
    command = [sys.executable, "-m", "riverrun.recipes.corpora.librispeech", "--source", str(tmp_path / "LibriSpeech")]
    command += ["--split", "dev-clean", "--jobs", "2", "--out"]
    process = subprocess.Popen([*command, str(tmp_path / "killed")])
    part = tmp_path / "killed/part-001.jsonl"
    while not part.exists() or part.read_bytes().count(b"\n") < 5:
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed/manifest.jsonl").exists()
    for out in ("killed", "whole"):
        assert subprocess.run([*command, str(tmp_path / out)], capture_output=True).returncode == 0
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    assert len(rows(tmp_path / "whole")) == 150
    killed, whole = (PackedCorpus(tmp_path / name) for name in ("killed", "whole"))
    for one, other in zip(killed, whole, strict=True):
        assert np.array_equal(killed.samples_of(one), whole.samples_of(other))
