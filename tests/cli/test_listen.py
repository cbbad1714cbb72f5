"""``listen`` and the microphone below it, with stand-ins for PortAudio and recordings for microphones."""

import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from riverrun.cli.live import Captions, gauge
from riverrun.streaming.microphone import MicrophoneError, find_microphone, level_db, microphones, open_microphone

FOUR = "one two three four\n"


class PortAudio:
    """A stand-in for the module sounddevice, whose microphones hear two seconds of silence and then Ctrl-C.

    Args:
        devices: names of microphones.
        code: PortAudio's error number with which they refuse to open.
        rates: that they take; any if empty.
        mono: whether they record one channel of their two.
    """

    class PortAudioError(Exception):
        pass

    def __init__(self, *devices: str, code: int = 0, rates: tuple[int, ...] = (), mono: bool = True, default: int | None = 1):
        self.code, self.rates, self.mono, self.default = code, rates, mono, default
        self.opened: list[tuple] = []
        self.devices = [{"name": "Speakers", "max_input_channels": 0, "default_samplerate": 48000.0, "index": 0}]
        for i, name in enumerate(devices, 1):
            self.devices.append({"name": name, "max_input_channels": 2, "default_samplerate": 16000.0, "index": i})

    def query_devices(self, device=None, kind=None):
        if kind is None:
            return self.devices
        if self.default is None or len(self.devices) == 1:
            raise self.PortAudioError("Error querying device -1")
        return self.devices[self.default]

    def check_input_settings(self, device, channels, dtype, extra_settings, samplerate):
        if self.rates and samplerate not in self.rates:
            raise self.PortAudioError("Invalid sample rate", -9997)
        if channels == 1 and not self.mono:
            raise self.PortAudioError("Invalid number of channels", -9998)

    def InputStream(self, rate, size, device, channels, dtype, callback, finished_callback):
        if self.code:
            raise self.PortAudioError("Device unavailable" if self.code == -9985 else "Unanticipated host error", self.code)
        self.opened.append((rate, size, device, channels))
        self.callback, self.finished_callback, self.size, self.channels = callback, finished_callback, size, channels
        return self

    def start(self):
        for i in range(50):
            self.hear(np.tile(np.arange(self.channels, dtype=np.float32) / 10, (self.size, 1)), overflow=i == 3)

    def hear(self, block, overflow=False):
        self.callback(block, len(block), None, type("Flags", (), {"input_overflow": overflow}))

    def close(self):
        self.finished_callback()


@pytest.fixture
def portaudio(monkeypatch):
    def install(*devices, **options):
        stand_in = PortAudio(*devices, **options)
        monkeypatch.setitem(sys.modules, "sounddevice", stand_in)
        return stand_in

    return install


def test_listen_to_a_recording_in_place_of_a_microphone(run):
    soundfile.write("talk.wav", np.zeros(2 * 8000), 8000)
    began = time.monotonic()
    assert run("listen", "--device", "file:talk.wav", "--save", "said.json") == (0, FOUR, "riverrun: listening to talk.wav; Ctrl-C ends\n")
    assert time.monotonic() - began > 1.9  # at the pace of the clock
    assert json.loads(Path("said.json").read_text())["text"] == FOUR.strip()


def test_listen_to_a_microphone_until_interrupted(run, portaudio, monkeypatch):
    sound = portaudio("Built-in")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("threading.Condition.wait", interrupted)
    code, out, err = run("listen", "--device", "built")
    assert (code, out) == (0, FOUR) and sound.opened == [(16000, 640, 1, 1)]
    assert err.splitlines()[1:] == ["riverrun: Built-in: the system lost some sound; this machine is too busy"]


def test_what_was_finished_is_saved_when_the_server_fails(run, monkeypatch):
    from riverrun.streaming.client import ClientError
    from riverrun.streaming.events import Final

    def failing(server, blocks, rate, captions, segments, **start):
        assert (server, rate, start["translate_to"], start["policy"]) == ("ws://speech.example/v1/stream", 8000, "de", "wait-k")
        segments.append(Final(0, "one two"))
        raise ClientError("too-long", "a stream may have 2 s of audio")

    monkeypatch.setattr("riverrun.cli.listen.hear_remotely", failing)
    soundfile.write("talk.wav", np.zeros(100), 8000)
    options = ["--server", "speech.example", "--to", "de", "--policy", "wait-k", "--save", "said.txt"]
    assert run("listen", "-d", "file:talk.wav", *options) == (2, "", "riverrun: a stream may have 2 s of audio\n")
    assert Path("said.txt").read_text() == "one two\n"


def test_list_of_microphones(run, portaudio):
    portaudio("Built-in", "Headset", default=2)
    assert run("listen", "--devices")[1] == "    1  Built-in  (2 channels, 16000 Hz)\n*   2  Headset  (2 channels, 16000 Hz)\n"
    assert [m.name for m in microphones()] == ["Built-in", "Headset"]


@pytest.mark.parametrize("choice", [2, "2", "Headset", "heads", "Headset USB"])
def test_choice_by_number_and_name(portaudio, choice):
    portaudio("Built-in", "Headset USB")
    if choice == "Headset":
        portaudio("Built-in", "Headset", "Headset USB")  # an exact name before a part of another
    assert find_microphone(choice).index == 2
    assert find_microphone().index == 1


@pytest.mark.parametrize(
    ("stand_in", "arguments", "message"),
    [
        (None, (), "microphones need the package sounddevice; pip install 'riverrun[mic]'"),
        (PortAudio(), (), "no microphone found; plug one in, or allow this program to use it"),
        (PortAudio("A", "B", default=None), (), "there is no default microphone; choose one: 1 A; 2 B"),
        (PortAudio("A", "B"), ("-d", "0"), "device 0 is no microphone; choose from 1 A; 2 B"),
        (PortAudio("A", "B"), ("-d", "C"), "no microphone is called 'C'; choose from 1 A; 2 B"),
        (PortAudio("Mic A", "Mic B"), ("-d", "mic"), "'mic' could be 1 Mic A or 2 Mic B; give the number"),
        (PortAudio("A", code=-9985), (), "A is busy; close the program that uses it, or choose another microphone"),
        (PortAudio("A", code=-9999), (), "A cannot be opened (Unanticipated host error); choose another microphone"),
        (PortAudio("A", rates=(7,)), (), "A does not record at 16000, 48000, 44100, 32000, 8000 Hz; choose another microphone"),
        (PortAudio("A"), ("-d", "file:gone.wav"), "gone.wav: no such recording"),
        (PortAudio("A"), ("-d", "file:no.wav"), "no.wav: not a recording that can be played (Format not recognised)"),
        (PortAudio("A"), ("--save", "said.doc"), "the suffix names no format; choose from .txt"),
        (PortAudio("A"), ("--to", "de"), "--language, --to and --policy ask something of a server; add --server"),
        (PortAudio("A"), ("--server", "ftp://x"), "'ftp://x' is no server"),
    ],
)
def test_errors_are_one_clear_line(run, monkeypatch, stand_in, arguments, message):
    monkeypatch.setitem(sys.modules, "sounddevice", stand_in)
    Path("no.wav").write_text("this is no audio")
    code, out, err = run("listen", *arguments)
    assert (code, out) == (2, "") and message in err and err.splitlines()[-1].startswith("riverrun: ")
    assert [line for line in err.splitlines() if "listening" not in line] == err.splitlines()[-1:]


def test_without_portaudio(run, monkeypatch):
    class Missing:
        def find_spec(self, name, path=None, target=None):
            if name == "sounddevice":
                raise OSError("PortAudio library not found")

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    assert "install it (Debian and Ubuntu: apt install libportaudio2)" in run("listen")[2]


def test_a_device_that_records_otherwise(portaudio):
    sound = portaudio("A", rates=(44100,), mono=False)
    with open_microphone() as recording:
        assert recording.sample_rate == 44100 and sound.opened == [(44100, 1764, 1, 2)]
        np.testing.assert_allclose(next(iter(recording)), np.full(1764, 0.05, np.float32))  # the mean of the channels
    with pytest.raises(MicrophoneError, match="A does not record at 16000 Hz; leave the rate to it"):
        open_microphone(sample_rate=16000)
    with pytest.raises(MicrophoneError, match="has its own sample rate"):
        open_microphone("file:x.wav", sample_rate=16000)


def test_a_device_that_goes_away(portaudio):
    sound = portaudio("A")
    with open_microphone() as recording, pytest.raises(MicrophoneError, match="A has stopped; was it unplugged"):
        sound.finished_callback()
        for _ in recording:
            pass


def test_a_listener_that_stalls_loses_nothing_until_the_queue_is_full(portaudio):
    sound = portaudio("A")
    told: list[object] = []
    with open_microphone(block_s=0.1, keep_s=5.5, trouble=told.append) as recording:  # 5 s are there already
        for i in range(10):
            sound.hear(np.full((1600, 1), i, np.float32))
        blocks = iter(recording)
        heard = [next(blocks) for _ in range(55)]
        assert [block[0] for block in heard[50:]] == [0, 1, 2, 3, 4]
        assert recording.lost == 0.5 and recording.overflows == 1
        assert told == ["A: the system lost some sound; this machine is too busy"]
        sound.hear(np.full((1600, 1), 10, np.float32))
        assert next(blocks)[0] == 10
        assert told[1:] == ["A: 0.50 s of sound were lost; this program did not keep up"]  # before what follows the gap


def test_a_played_recording_is_whole(tmp_path):
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, (3000, 2)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", audio, 16000, "FLOAT")
    with open_microphone(f"file:{tmp_path}/a.wav") as recording:
        heard = np.concatenate(list(recording))
    np.testing.assert_allclose(heard, audio.mean(1), atol=1e-7)
    with open_microphone(f"file:{tmp_path}/a.wav") as recording:  # left before its end
        assert len(next(iter(recording))) == 640


def test_levels():
    assert level_db(np.zeros(10, np.float32)) == level_db(np.zeros(0, np.float32)) == -100.0
    assert level_db(np.full(10, -1.0, np.float32)) == 0.0
    np.testing.assert_allclose(level_db(np.sin(np.arange(16000) * 0.1).astype(np.float32)), -3.01, atol=0.01)
    assert gauge(-30, 65).plain == "1:05 " + "━" * 20 + " -30 dB"
    assert [str(span.style) for span in gauge(-30, 65).spans][1] == "green" and gauge(-0.5, 0).spans[1].style == "red"
    assert gauge(-100, 0).plain.endswith("-60 dB") and gauge(-100, 9, muted=True).plain.endswith("switched off?")


def test_meter_and_stable_text_on_a_terminal(monkeypatch, capsys):
    from riverrun.streaming.events import Final, Partial

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with Captions() as captions:
        captions.meter(np.full(640, 0.5, np.float32), 16000)
        captions.show(Partial(0, "so far and"))
        captions.show(Final(0, "so far and on"))
    out = capsys.readouterr().out
    assert " -6 dB" in out and "\x1b[2mso far and\x1b[0m" in out and "so far and on\n" in out
