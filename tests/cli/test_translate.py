"""``riverrun translate`` with a model whose source language is loudness (see `tests.streaming.fake_translator`)."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import soundfile

from riverrun.cli import policies
from riverrun.cli.trace import TracedTranslator
from riverrun.speech.bundle import BundleError
from riverrun.speech.model import load as load_really
from riverrun.streaming import Stream
from riverrun.streaming.policies import POLICIES, parse_policy

from ..speech import huggingface_tiny
from ..streaming.fake_translator import FakeModel, speak

ROOT = Path(__file__).parents[2]
DE = "eins zwei drei.\n"


class FakeTranslation:
    info = {"name": "fake", "latencies_ms": [160]}
    card = ""

    def attention_model(self, latency_ms=None, search=None, layer=None):
        if layer == 9:
            raise ValueError("this model has no decoder layer 9: choose one of 1 to 6")
        model = FakeModel()
        model.policy_defaults = {"alignatt": {"frames": 3}}
        return model


def load(name, device="cpu"):
    if name == "recogniser":
        return object()
    if name != "fake":
        raise BundleError(f"unknown model {name!r}: give a bundle's folder or one of fake")
    return FakeTranslation()


@pytest.fixture
def translate(run, monkeypatch):
    monkeypatch.setattr("riverrun.speech.load", load, raising=False)
    return lambda *arguments: run("translate", "-m", "fake", *arguments)


def record(path, words=(1, 2, 3, 9)):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, speak(words), 16000, subtype="FLOAT")
    return str(path)


@pytest.mark.parametrize("policy", [*POLICIES, "re-translation", "alignatt:frames=2"])
def test_every_policy_writes_the_same_in_the_end_or_what_it_must_pay(translate, policy):
    code, out, err = translate(record("a.wav"), "--policy", policy)
    assert (code, err) == (0, "") and out.endswith(".\n")
    if policy in ("alignatt", "streamatt", "retranslation", "re-translation"):
        assert out == DE


def test_languages_and_options(translate):
    assert translate(record("a.wav"), "--to", "fr", "-O", "f=4", "--decide", "320", "--silence", "0.5")[:2] == (0, "un deux trois.\n")
    assert translate("a.wav", "--policy", "wait-k:k=2", "-O", "w=ctc")[0] == 0


def test_a_pause_ends_a_segment_unless_told_otherwise(translate):
    record("a.wav", (1, 2, 0, 0, 0, 0, 3, 4))
    for options, want in (((), ["eins zwei", "drei vier"]), (("--silence", "0"), ["eins zwei drei vier"])):
        code, out, _ = translate("a.wav", "--policy", "retranslation", "-f", "json", *options)
        assert code == 0 and [segment["text"] for segment in json.loads(out)["segments"]] == want


def test_many_formats_and_failures_are_those_of_transcribe(translate):
    record("a.wav"), record("b.wav", (4, 5, 9)), Path("bad.wav").write_text("this is no audio")
    code, out, err = translate("a.wav", "bad.wav", "b.wav")
    assert (code, out) == (1, f"==> a.wav <==\n{DE}\n==> b.wav <==\nvier fünf.\n")
    assert err.splitlines()[0].startswith("riverrun: bad.wav: not audio") and err.endswith("1 of 3 recordings failed\n")
    assert translate("a.wav", "b.wav", "-f", "srt", "-o", "out")[0] == 0
    assert Path("out/a.srt").read_text().startswith("1\n00:00:00,040 --> ") and "vier fünf." in Path("out/b.srt").read_text()
    _, out, _ = translate("a.wav", "-f", "json")
    words = json.loads(out)["segments"][0]["words"]
    assert [w["text"] for w in words] == ["eins", "zwei", "drei."] and words[0]["start"] < words[2]["start"]
    assert translate("a.wav", "-f", "vtt")[1].startswith("WEBVTT\n")


def test_the_microphone_is_heard_where_nothing_is_named(translate):
    code, out, err = translate("-d", f"file:{record('a.wav')}", "-o", "out", "-f", "vtt")
    assert (code, out) == (0, DE) and "listening to" in err
    assert "eins zwei drei." in Path("out/microphone.vtt").read_text()


def test_plot_shows_where_each_token_looked(translate):
    assert translate(record("a.wav"), "--plot", "seen/a.png")[:2] == (0, DE)
    picture = matplotlib.image.imread("seen/a.png")
    assert picture.shape[0] > 300 and picture.shape[1] > 600 and picture[..., :3].std() > 0.05
    assert [p.name for p in Path("seen").iterdir()] == ["a.png"]
    code, out, err = translate(record("silence.wav", ()), "--plot", "b.svg")
    assert (code, out) == (0, "") and err == "riverrun: nothing was written, so b.svg is not drawn\n" and not Path("b.svg").exists()


def test_a_trace_has_the_attention_of_what_was_written_in_its_place():
    traced = TracedTranslator(FakeModel(most_frames=60), parse_policy("streamatt:frames=3,size=2"), language="de")
    stream, audio = Stream(traced), speak([1, 2, 3, 4, 5, 6, 7, 8], frames=6)
    events = [event for piece in np.split(audio, 3) for event in stream.push(piece)] + stream.finish()
    assert "".join(w.text for w in traced.written).strip() == " ".join(e.text for e in events if hasattr(e, "start"))
    words = [w for w in traced.written if w.text.startswith(" ")]
    looks = [w.first_frame + int(w.attention[:-1].argmax()) for w in words]
    assert looks == [n * 7 + 3 - 1 for n in range(8)] and [w.first_frame for w in words][-1] > 0
    assert all(w.at_ms / 40 > look for w, look in zip(words, looks, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("gone.wav",), "gone.wav: no such file"),
        (("a.wav", "--to", "xx"), "this model does not translate into 'xx': it translates into de, fr"),
        (("a.wav", "--from", "en"), "this model hears one language; leave --from out"),
        (("a.wav", "--layer", "9"), "this model has no decoder layer 9: choose one of 1 to 6"),
        (("a.wav", "-m", "recogniser"), "model recogniser is a recogniser, and translates nothing: give a translator, or hf:owner/name"),
        (("a.wav", "-m", "gone"), "unknown model 'gone'"),
        (("a.wav", "-m", "hf:nowhere"), "unknown model 'hf:nowhere'"),
        (("a.wav", "--compute", "cuda:99"), "there is no device cuda:99 on this machine; use --device cpu"),
        (("a.wav", "--policy", "guess"), "'guess' is not a policy; choose from alignatt, edatt, streamatt, wait-k, local-agreement"),
        (("a.wav", "-O", "frames"), "'frames' is no setting; write option=value, such as frames=8"),
        (("a.wav", "-O", "depth=3"), "policy alignatt has no option 'depth': it has frames, rewind"),
        (("a.wav", "-O", "frames=0"), "policy alignatt: frames is 0: give a whole number, at least 1"),
        (("a.wav", "-O", "f=2", "-O", "fr=3"), "policy alignatt: frames is given twice"),
        (("a.wav", "--policy", "edatt", "-O", "lambda=0"), "policy edatt: lambda is 0: give a whole number, at least 1"),
        (("a.wav", "--policy", "edatt", "-O", "alpha=2"), "policy edatt: alpha is 2: give a number above 0 and at most 1"),
        (("a.wav", "--policy", "wait-k", "-O", "k=-1"), "policy wait-k: k is -1: give a whole number, at least 1"),
        (("a.wav", "--policy", "streamatt", "-O", "re=2"), "policy streamatt: 're' may be rewind or remember; write more of it"),
        (("a.wav", "--decide", "99999"), "decisions every 100000 ms: this model allows less than 8000 ms"),
        (("a.wav", "--silence", "0.01"), "silence_s is 0.01: give seconds, at least 0.1"),
        (("a.wav", "--plot", "a.txt"), "a.txt: the suffix names no picture; choose from .png, .svg, .pdf"),
        (("a.wav", "b.wav", "--plot", "a.png"), "--plot draws one recording; name only one"),
        (("a.wav", "-d", "0"), "--device names a microphone, and AUDIO is given; leave one out (the model's place is --compute)"),
        (("--realtime",), "--realtime, --sample-rate, --encoding and --channels describe recordings; name one, or leave them out"),
        (("-f", "json"), "--live prints captions; add --output DIR to keep them as json, too"),
    ],
)
def test_bad_use_is_told_in_one_line(translate, arguments, message):
    record("a.wav"), record("b.wav")
    code, out, err = translate(*arguments)
    assert (code, out) == (2, "") and err.count("\n") == 1 and message in err


def test_without_a_translator(run, monkeypatch):
    record("a.wav")
    monkeypatch.setattr("riverrun.speech.bundle.available", lambda: [])
    assert run("translate", "a.wav")[2] == (
        "riverrun: no translator is installed; name one with --model: a bundle's folder, or hf:owner/name\n"
    )
    monkeypatch.setattr("riverrun.speech.bundle.available", lambda: [("en-de", Path(), "")])
    monkeypatch.setattr("riverrun.speech.bundle.translates_into", lambda folder: ("de",))
    assert "no installed model translates into 'fr': they translate into de; name another" in run("translate", "a.wav", "--to", "fr")[2]
    monkeypatch.setattr("riverrun.speech.load", lambda name, device: FakeTranslation() if name == "en-de" else None, raising=False)
    assert run("translate", "a.wav", "--to", "de")[:2] == (0, DE)


def test_checkpoints_translate_and_transcribe(run, monkeypatch, tmp_path):
    monkeypatch.setattr("riverrun.speech.load", load_really, raising=False)
    record("a.wav")
    hears, canary = (f"hf:{make(tmp_path / make.__name__)}" for make in (huggingface_tiny.moonshine, huggingface_tiny.canary))
    code, out, err = run("transcribe", "a.wav", "-m", hears, "-l", "400", "-f", "json")
    words = json.loads(out)["segments"][0]["words"]
    assert (code, err) == (0, "") and len(words) > 3
    assert run("translate", "a.wav", "-m", canary, "--to", "fr", "--from", "de", "--policy", "edatt")[::2] == (0, "")
    assert run("transcribe", "a.wav", "-m", canary, "-l", "5")[::2] == (
        2,
        f"riverrun: model {canary}: decisions every 5 ms: give at least 20 milliseconds\n",
    )
    assert run("translate", "a.wav", "-m", canary, "--to", "es")[2] == (
        "riverrun: this model does not translate into 'es': it translates into fr, de, en\n"
    )
    assert run("translate", "a.wav", "-m", "hf:nowhere")[2] == (
        "riverrun: hf:nowhere: no such folder, and no repository, which would be hf:owner/name\n"
    )
    assert json.loads(run("models", "info", canary, "--json")[1])["target_languages"] == ["fr", "de", "en"]


def test_names_are_those_of_the_policies():
    assert set(policies.NAMES) == set(POLICIES)


def test_plots_without_matplotlib(translate, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert translate(record("a.wav"), "--plot", "a.png")[2] == "riverrun: plots need matplotlib: pip install 'riverrun[plot]'\n"


def test_a_pipe_and_a_terminal(tmp_path):
    """One process: PCM comes in through a pipe, captions go to a terminal, on which the tail is dimmed and what is written is not."""
    samples = (speak((1, 2, 3, 9)) * 32767).astype("<i2").tobytes()
    program = "import riverrun.speech\nfrom tests.cli.test_translate import load\nriverrun.speech.load = load\n"
    command = [sys.executable, "-c", program + "from riverrun.cli.main import main\nmain()"]
    command += ["translate", "-", "-m", "fake", "--live", "--policy", "alignatt"]
    ours, theirs = pty.openpty()
    environment = {**{name: value for name, value in os.environ.items() if name != "NO_COLOR"}, "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=theirs, env=environment) as process:
        os.close(theirs)
        process.stdin.write(samples)
        process.stdin.close()
        shown = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:
                break
            if not part:
                break
            shown += part
    assert process.returncode == 0
    text = shown.decode()
    assert "eins zwei\x1b[2m" in text and "\x1b[2Keins zwei drei.\r\n" in text
