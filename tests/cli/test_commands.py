"""The commands, in process with a model that hears what it likes, and as programs where a pipe or a terminal matters."""

import json
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from riverrun.cli.main import main

from . import fake

ROOT = Path(__file__).parents[2]
FOUR = "one two three four\n"


def record(path, seconds=2.0):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(int(seconds * 16000)), 16000)
    return str(path)


def program(*arguments, **options):
    command = [sys.executable, "-m", "tests.cli.fake", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, **options)  # noqa: S603


def test_one_recording_prints_its_text_alone(run):
    assert run("transcribe", record("an old talk.wav")) == (0, FOUR, "")


def test_several_stand_under_headings(run):
    record("a.wav"), record("b/ü.wav"), Path("b/notes.md").write_text("no audio")
    assert run("transcribe", "a.wav", "b", "./a.wav") == (0, f"==> a.wav <==\n{FOUR}\n==> b/ü.wav <==\n{FOUR}", "")


def test_json_lines_and_ctm_name_their_recordings(run):
    record("a.wav"), record("b.wav")
    _, out, _ = run("transcribe", "a.wav", "b.wav", "-f", "json")
    assert [json.loads(line)["audio"] for line in out.splitlines()] == ["a.wav", "b.wav"]
    _, out, _ = run("transcribe", "a.wav", "b.wav", "-f", "ctm")
    assert {line.split()[0] for line in out.splitlines()} == {"a.wav", "b.wav"}


def test_output_folder_keeps_equal_names_apart(run):
    record("x/talk.wav"), record("y/talk.wav"), record("z/song.wav"), record("z/song.flac"), record("z/Solo.wav")
    assert run("transcribe", "x", "y", "z", "-o", "new/out", "-f", "srt")[0] == 0
    written = sorted(p.name for p in Path("new/out").iterdir())
    assert written == ["Solo.srt", "song.flac.srt", "song.wav.srt", "x-talk.srt", "y-talk.srt"]


def test_bad_recordings_do_not_stop_the_others(run):
    record("good.wav"), Path("bad.wav").write_text("this is no audio")
    code, out, err = run("transcribe", "bad.wav", "gone.wav", "good.wav")
    assert (code, out) == (1, f"==> good.wav <==\n{FOUR}")
    lines = err.splitlines()
    assert lines[0].startswith("riverrun: bad.wav: not audio") and lines[1].startswith("riverrun: gone.wav: no such file")
    assert lines[2:] == ["riverrun: 2 of 3 recordings failed"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gone.wav",), "gone.wav: no such file"),
        (("a.wav", "-f", "doc"), "'doc' is not a format; choose from txt, srt, vtt, json, ctm, textgrid"),
        (("a.wav", "-m", "big"), "unknown model 'big'"),
        (("a.wav", "-l", "soon"), "'soon' is neither 'full' nor a number of milliseconds"),
        (("a.wav", "-l", "5"), "model default: latency must be a multiple of 40 ms, or 'full', not 5; it was trained for 160, 320"),
        (("a.wav", "--search", "best"), "'best' is not a search; choose from greedy, beam"),
        (("a.wav", "--device", "tpu"), "'tpu' is not a device"),
        (("a.wav", "--device", "cuda:99"), "there is no device cuda:99 on this machine; use --device cpu"),
        (("a.wav", "--loud"), "No such option: --loud"),
        (("a.wav", "-o", "a.wav/out"), "cannot write to a.wav/out: not a directory"),
        (("a.wav", "--channels", "2"), "describe '-' only"),
        (("a.wav", "b.wav", "-f", "vtt"), "several recordings cannot share one vtt file; add --output DIR"),
        (("a.wav", "--live", "-f", "vtt"), "--live prints captions; add --output DIR"),
        (("empty",), "empty: no recordings in this folder"),
        ((), "Missing argument 'AUDIO'"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(run, arguments, message):
    record("a.wav"), Path("empty").mkdir()
    code, out, err = run("transcribe", *arguments)
    assert (code, out) == (2, "") and err.startswith("riverrun: ") and err.count("\n") == 1 and message in err


def test_a_defect_keeps_its_traceback(run, monkeypatch):
    monkeypatch.setattr(fake.FakeModel, "transcribe", lambda *_, **__: [].index(1))
    with pytest.raises(ValueError, match="is not in list"):
        main(["transcribe", record("a.wav")])


def test_interrupt_keeps_what_was_finished(run, monkeypatch):
    original = fake.FakeModel.transcribe

    def interrupted(self, source, **options):
        if source.name.endswith("b.wav"):
            raise KeyboardInterrupt
        return original(self, source, **options)

    monkeypatch.setattr(fake.FakeModel, "transcribe", interrupted)
    record("a.wav"), record("b.wav"), record("c.wav")
    assert run("transcribe", ".", "-o", "out") == (130, "", "riverrun: stopped; 1 of 3 recordings done\n")
    assert [p.name for p in Path("out").iterdir()] == ["a.txt"]


def test_live_in_a_pipe_is_one_line_for_each_final(run):
    assert run("transcribe", record("a.wav", 3.2), "--live", "-l", "320") == (0, FOUR + "one two\n", "")


def test_standard_input():
    pcm = bytes(2 * 2 * 8000 * 2)
    heard = program("transcribe", "-", "--sample-rate", "8000", "--channels", "2", input=pcm)
    assert (heard.returncode, heard.stdout.decode()) == (0, FOUR)
    refused = program("transcribe", "-", input=b"RIFF....WAVE")
    assert refused.returncode == 2 and b"standard input is a WAV file" in refused.stderr


def test_captions_on_a_terminal(tmp_path):
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "tests.cli.fake", "transcribe", record(tmp_path / "a.wav"), "--live"]
    with subprocess.Popen(command, cwd=ROOT, stdout=follower, stderr=follower, env={**os.environ, "TERM": "xterm"}) as process:  # noqa: S603
        os.close(follower)
        seen = b""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                seen += os.read(leader, 65536)
            except OSError:
                break
    os.close(leader)
    assert process.returncode == 0
    assert b"\x1b[2mone two three\x1b[0m" in seen
    assert b"one two three four\r\n" in re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", seen)


def manifest(*lines):
    Path("m.jsonl").write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return "m.jsonl"


def test_evaluate_as_json(run):
    record("a.wav"), record("b.wav", 1.0)
    name = manifest({"id": "a", "audio": "a.wav", "text": "One, two... THREE five!"}, {"id": "b", "audio": "b.wav", "text": "one two"})
    code, out, err = run("evaluate", "--manifest", name, "--json", "-o", "report.json")
    report = json.loads(out)
    assert (code, err) == (0, "") and report == json.loads(Path("report.json").read_text())
    assert report["version"] == 1 and report["failed"] == {} and report["audio_seconds"] == 3.0
    wer = report["wer"]
    assert (wer["rate"], wer["substitutions"], wer["deletions"], wer["insertions"], wer["reference"]) == (0.16667, 1, 0, 0, 6)
    assert wer["low"] == 0.0 and wer["high"] == 0.25
    first = report["word_latency"]["first"]
    assert report["word_latency"]["words"] == 6 and 0.3 < first["median"] <= fake.DELAY + 0.04


def test_evaluate_whole_has_no_word_latency(run):
    name = manifest({"id": "a", "audio": record("a.wav"), "text": "one"})
    assert json.loads(run("evaluate", "--manifest", name, "--json", "-l", "full")[1])["word_latency"] is None


def test_evaluate_prints_tables_and_names_failures(run):
    name = manifest({"id": "a", "audio": record("a.wav"), "text": "one"}, {"id": "b", "audio": "gone.wav", "text": "one"})
    code, out, err = run("evaluate", "--manifest", name)
    assert code == 1 and re.search(r"WER +300.0 %", out) and "word first seen" in out
    assert err.splitlines()[0].endswith("gone.wav: no such file") and "1 of 2 recordings failed" in err


def test_evaluate_names_broken_lines(run):
    name = manifest({"id": "a", "audio": "a.wav", "text": "one"}, "{", '{"id": "c"}')
    assert run("evaluate", "--manifest", name)[2].startswith("riverrun: m.jsonl: line 2: not JSON (")


def test_models(run, monkeypatch):
    monkeypatch.setattr("riverrun.speech.bundle.available", lambda: [("fake", Path("/models/fake"), "hears what it likes")])
    assert run("models", "list") == (0, "fake\thears what it likes\t/models/fake\n", "")
    assert json.loads(run("models", "list", "--json")[1]) == [
        {"name": "fake", "path": "/models/fake", "description": "hears what it likes"}
    ]
    code, out, _ = run("models", "info", "fake")
    assert code == 0 and "1,234,567" in out and "hears what it *likes*" in out
    assert json.loads(run("models", "info", "fake", "--json")[1])["latencies_ms"] == [160, 320]


def test_version_and_help_load_nothing_heavy():
    code = (
        "import sys; from riverrun.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print('heavy:', sorted({'torch', 'numpy', 'jiwer', 'soundfile', 'rich.progress'} & sys.modules.keys()), file=sys.stderr)"
    )
    for arguments in (["--version"], ["--help"], ["transcribe", "--help"], ["transcribe", "a.wav", "-f", "doc"]):
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)  # noqa: S603
        assert done.stderr.splitlines()[-1] == "heavy: []", done.stderr
