"""Files and pipes in and out, good and bad."""

import io
import os
import re
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from riverrun.speech.audio import AudioError, open_audio, pcm_blocks, read_audio, write_audio

RATE = 16000
TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)).astype(np.float32)


def wav(samples: NDArray[Any] = TONE, rate: int = RATE, subtype: str = "PCM_16", file_format: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=file_format, subtype=subtype)
    return file.getvalue()


def container(file_format: str, codec: str, samples: NDArray[np.float32] = TONE, rate: int = 48000) -> bytes:
    """One second or more of stereo in a container of PyAV's."""
    file = io.BytesIO()
    with av.open(file, "w", format=file_format) as out:
        track = out.add_stream(codec, rate=rate, layout="stereo")
        track.codec_context.open()
        frame = av.AudioFrame.from_ndarray(np.stack([samples, 0 * samples]), format="fltp", layout="stereo")
        frame.sample_rate = rate
        fit = av.AudioResampler(format=track.format.name, layout="stereo", rate=rate, frame_size=track.codec_context.frame_size or 1024)
        for piece in fit.resample(frame) + fit.resample(None):
            out.mux(track.encode(piece))
        out.mux(track.encode(None))
    return file.getvalue()


def all_of(source: Any, **options: Any) -> NDArray[np.float32]:
    with open_audio(source) as audio:
        return np.concatenate(list(audio.blocks(**options)))


def error_of(source: Any) -> str:
    with pytest.raises(AudioError) as error:
        all_of(source)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("subtype", "tolerance"),
    [
        ("PCM_U8", 1e-2),
        ("PCM_16", 1e-4),
        ("PCM_24", 1e-6),
        ("PCM_32", 1e-7),
        ("FLOAT", 1e-7),
        ("DOUBLE", 1e-7),
        ("ULAW", 3e-2),
        ("ALAW", 3e-2),
    ],
)
def test_bit_depths(subtype: str, tolerance: float) -> None:
    np.testing.assert_allclose(all_of(io.BytesIO(wav(subtype=subtype))), TONE, atol=tolerance)


@pytest.mark.parametrize("rate", [1000, 8000, 11025, 22050, 44100, 48000, 96000, 192000])
def test_rates(rate: int) -> None:
    t = np.arange(rate) / rate
    with open_audio(io.BytesIO(wav(0.5 * np.sin(2 * np.pi * 100 * t), rate))) as audio:
        assert (audio.sample_rate, audio.channels, audio.duration, audio.warning) == (rate, 1, 1.0, None)
        assert [len(block) for block in audio.blocks(0.4)] == [2 * rate // 5, 2 * rate // 5, rate // 5]
        got = np.concatenate(list(audio.blocks(0.3, sample_rate=RATE)))
    assert len(got) == RATE
    want = 0.5 * np.sin(2 * np.pi * 100 * np.arange(RATE) / RATE)
    np.testing.assert_allclose(got[4000:-4000], want[4000:-4000], atol=2e-4)


@pytest.mark.parametrize("channels", [1, 2, 7])
def test_channels_are_averaged(channels: int) -> None:
    many = np.random.default_rng(0).uniform(-1, 1, (1000, channels)).astype(np.float32)
    with open_audio(io.BytesIO(wav(many, subtype="FLOAT"))) as audio:
        assert audio.channels == channels
        np.testing.assert_allclose(next(audio.blocks()), many.mean(1), atol=1e-6)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".opus", ".mp3"])
def test_formats_there_and_back(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"größer als 你好 {suffix}"
    write_audio(path, TONE, RATE)
    assert list(tmp_path.iterdir()) == [path]
    got = read_audio(path)
    assert len(got) == len(TONE)
    assert got.dtype == np.float32
    assert np.abs(got - TONE).mean() < (2e-5 if suffix in (".wav", ".flac") else 2e-2)
    np.testing.assert_array_equal(read_audio(str(path)), got)
    np.testing.assert_array_equal(read_audio(io.BytesIO(path.read_bytes())), got)
    with path.open("rb") as stream:
        np.testing.assert_array_equal(read_audio(stream), got)
        assert not stream.closed


@pytest.mark.parametrize(("file_format", "codec"), [("mp4", "aac"), ("webm", "libopus"), ("matroska", "aac"), ("adts", "aac")])
def test_containers(tmp_path: Path, file_format: str, codec: str) -> None:
    samples = np.resize(TONE, 96000)
    path = tmp_path / "talk.bin"
    path.write_bytes(container(file_format, codec, samples))
    with open_audio(path) as audio:
        assert (audio.sample_rate, audio.channels) == (48000, 2)
        assert audio.duration == pytest.approx(2, abs=0.1)
        once, again = (list(audio.blocks(0.5)) for _ in range(2))
        np.testing.assert_array_equal(np.concatenate(once), np.concatenate(again))
        assert all(len(block) == 24000 for block in once[:-1])
        assert audio.warning is None
    assert sum(map(len, once)) == pytest.approx(96000, abs=2100)
    middle = np.concatenate(once)[30000:60000]
    assert 0.9 < np.abs(middle).max() / 0.25 < 1.1  # the mean of the tone and of a silent channel
    assert len(read_audio(path)) == pytest.approx(32000, abs=700)


def test_containers_without_pyav(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "talk.m4a"
    path.write_bytes(container("mp4", "aac"))
    monkeypatch.setitem(sys.modules, "av", None)
    assert error_of(path) == f"{path}: reading m4a, mp4, webm and mkv needs PyAV: pip install 'riverrun[video]'"


def test_container_without_sound(tmp_path: Path) -> None:
    path = tmp_path / "silent film.mp4"
    with av.open(str(path), "w") as out:
        track = out.add_stream("mpeg4", rate=5)
        track.width = track.height = 16
        track.pix_fmt = "yuv420p"
        out.mux(track.encode(av.VideoFrame(16, 16, "yuv420p")))
        out.mux(track.encode(None))
    assert error_of(path) == f"{path}: no audio track in it"


def test_bad_files(tmp_path: Path) -> None:
    def put(name: str, data: bytes) -> str:
        (tmp_path / name).write_bytes(data)
        return str(tmp_path / name)

    kinds = "wav, flac, ogg, opus, mp3, m4a, mp4, webm, mkv"
    flac, mp4 = wav(np.tile(TONE, 5), file_format="FLAC"), container("mp4", "aac")
    cases = {
        str(tmp_path / "missing.wav"): "no such file",
        str(tmp_path): "a folder, not an audio file",
        put("empty.wav", b""): "empty (0 bytes)",
        put("letter.wav", b"Dear Sir or Madam, this is no audio. " * 20): f"not audio of a kind that can be read ({kinds})",
        put("samples.raw", bytes(range(200))): f"not audio of a kind that can be read ({kinds})",
        put("noise.mp3", b"\xff\xfb\x90\x00" + bytes(50)): f"not audio of a kind that can be read ({kinds})",
        put("list.m3u8", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"): f"not audio of a kind that can be read ({kinds})",
        put("head.wav", wav()[:40]): "damaged: Error in WAV file. No 'data' chunk marker; get a whole copy of it",
        put("silent.wav", wav(TONE[:0])): "no audio in it (0 samples)",
        put("cut.wav", wav()[:44]): "no audio in it (0 samples)",
        put("cut.flac", flac[: len(flac) // 2]): "damaged after 0.00 s (flac decoder lost sync); get a whole copy of it",
        put("cut.mp4", mp4[: len(mp4) // 2]): "damaged: Invalid data found when processing input; get a whole copy of it",
        put("slow.wav", wav(rate=999)): "a sample rate of 999 Hz; rates from 1000 to 768000 Hz can be read",
    }
    for path, message in cases.items():
        assert error_of(path) == f"{path}: {message}"
    assert error_of("no\0name") == "no\0name: cannot be read: embedded null byte"
    assert error_of(io.BytesIO(b"")) == "audio stream: empty (0 bytes)"


def test_file_that_may_not_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert error_of(tmp_path / "a.wav") == f"{tmp_path / 'a.wav'}: may not be read; check the file's permissions"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(bad: float) -> None:
    samples = TONE.copy()
    samples[20000] = bad
    wants = "NaN or infinite samples from 1.25 s on; write the file again, in 16 bits if it need not be float"
    file = io.BytesIO(wav(samples, subtype="FLOAT"))
    assert error_of(file) == f"audio stream: {wants}"
    with open_audio(file) as audio:
        blocks = audio.blocks(0.5)
        assert [len(next(blocks)), len(next(blocks))] == [8000, 8000]
    with pytest.raises(AudioError, match="NaN or infinite samples from 1.25 s on"):
        list(pcm_blocks(io.BytesIO(samples.tobytes()), "pcm_f32le"))


def test_damage_after_good_blocks() -> None:
    flac = wav(np.tile(TONE, 5), file_format="FLAC")
    with open_audio(io.BytesIO(flac[: len(flac) // 2])) as audio:
        good: list[NDArray[np.float32]] = []
        with pytest.raises(AudioError) as error:
            good.extend(audio.blocks(0.5))
    assert re.fullmatch(r"audio stream: damaged after \d\.\d\d s \(flac decoder lost sync\); get a whole copy of it", str(error.value))
    assert len(good) > 4


def test_wav_cut_short_is_read_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "cut.wav"
    path.write_bytes(wav()[: 44 + 2 * 10000])
    message = f"{path}: cut short: 0.62 s of 2.00 s are there"
    with open_audio(path) as audio:
        assert (audio.warning, audio.duration) == (message, 0.625)
    with pytest.warns(UserWarning) as caught:
        assert len(read_audio(path)) == 10000
    assert str(caught[0].message) == message


def test_mp3_cut_short_is_read_with_a_warning() -> None:
    mp3 = wav(np.tile(TONE, 5), subtype="MPEG_LAYER_III", file_format="MP3")
    with open_audio(io.BytesIO(mp3[: len(mp3) // 2])) as audio:
        assert audio.warning is None
        read = sum(map(len, audio.blocks())) / RATE
        assert audio.warning == f"audio stream: cut short: {read:.2f} s of 10.00 s are there"


def test_headers_that_do_not_know_the_length() -> None:
    piped = bytearray(wav())
    piped[4:8] = piped[40:44] = b"\xff" * 4
    with open_audio(io.BytesIO(piped)) as audio:
        assert (audio.warning, audio.duration) == (None, 2.0)
    flac = bytearray(wav(file_format="FLAC"))
    flac[21] &= 0xF0
    flac[22:26] = bytes(4)
    with open_audio(io.BytesIO(flac)) as audio:
        assert (audio.warning, audio.duration) == (None, None)
        assert sum(map(len, audio.blocks())) == len(TONE)


def test_pipe_with_a_whole_file() -> None:
    receive, send = os.pipe()

    def feed() -> None:
        with os.fdopen(send, "wb") as pipe:
            pipe.write(wav())

    thread = threading.Thread(target=feed)
    thread.start()
    with os.fdopen(receive, "rb") as stream:
        assert len(all_of(stream)) == len(TONE)
    thread.join()


def test_memory_stays_flat(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    write_audio(path, np.zeros((200 * RATE, 2), np.int16), RATE)
    with open_audio(path) as audio:
        tracemalloc.start()
        assert sum(map(len, audio.blocks(1.0, sample_rate=8000))) == 200 * 8000
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 2e6


class Dribble(io.RawIOBase):
    """A pipe whose reads end anywhere."""

    def __init__(self, data: bytes, sizes: list[int]):
        self.data, self.sizes = data, sizes

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        take = min(size, self.sizes.pop(0)) if self.sizes else size
        out, self.data = self.data[:take], self.data[take:]
        return out


@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize(("encoding", "dtype", "scale"), [("pcm_s16le", "<i2", 32768), ("pcm_f32le", "<f4", 1)])
def test_pcm_in_pieces_that_end_anywhere(encoding: str, dtype: str, scale: int, channels: int) -> None:
    rng = np.random.default_rng(0)
    samples = (rng.uniform(-1, 1, (5000, channels)) * scale).astype(dtype)
    stream = Dribble(samples.tobytes() + b"x", [1, 2, 3, 5, 7, 11, 1, 1, 1000, 13])
    blocks = list(pcm_blocks(stream, encoding, RATE, channels, seconds=0.05))  # type: ignore[arg-type]
    assert all(0 < len(block) <= 800 and block.dtype == np.float32 for block in blocks)
    np.testing.assert_allclose(np.concatenate(blocks), (samples / scale).mean(1), atol=1e-6)


def test_pcm_is_passed_on_as_it_arrives() -> None:
    receive, send = os.pipe()
    with os.fdopen(receive, "rb") as stream:
        blocks: Iterator[NDArray[np.float32]] = pcm_blocks(stream, seconds=10)
        os.write(send, bytes(320))
        assert len(next(blocks)) == 160
        os.close(send)
        assert list(blocks) == []


def test_pcm_errors() -> None:
    cases: list[tuple[bytes, dict[str, Any], str]] = [
        (b"\0\0", {"encoding": "mp3"}, "unknown encoding 'mp3'; choose one of pcm_s16le, pcm_f32le"),
        (b"\0\0", {"channels": 0}, "0 channels; there must be 1 or more"),
        (b"", {}, "no audio in it (0 samples)"),
        (b"\0", {}, "no audio in it (0 samples)"),
    ]
    for data, options, message in cases:
        with pytest.raises(AudioError) as error:
            list(pcm_blocks(io.BytesIO(data), **options))
        assert str(error.value) == f"audio stream: {message}"


def test_sixteen_bits_survive_reading_and_writing(tmp_path: Path) -> None:
    every = np.arange(-32768, 32768, dtype=np.int16)
    for path in (tmp_path / "a.wav", tmp_path / "a.flac"):
        write_audio(path, every, RATE)
        write_audio(path, read_audio(path), RATE)
        np.testing.assert_array_equal(soundfile.read(path, dtype="int16")[0], every)
    write_audio(path, np.array([[2.0, -2.0]]), RATE)
    assert soundfile.read(path, dtype="int16")[0].tolist() == [[32767, -32768]]


def test_minutes_of_ogg_are_written(tmp_path: Path) -> None:
    write_audio(tmp_path / "long.ogg", np.tile(TONE, 60), RATE)
    with open_audio(tmp_path / "long.ogg") as audio:
        assert audio.duration == 120


def test_what_cannot_be_written(tmp_path: Path) -> None:
    cases: list[tuple[str, NDArray[Any], int, str]] = [
        ("a.xyz", TONE, RATE, "cannot write audio as .xyz; use one of .wav, .flac, .ogg, .opus, .mp3"),
        ("a", TONE, RATE, "cannot write audio as a file without suffix; use one of .wav, .flac, .ogg, .opus, .mp3"),
        ("a.wav", TONE * np.nan, RATE, "NaN or infinite samples are not written"),
        ("a.wav", np.zeros(4, np.int64), RATE, "samples are int64 (4,); give float or int16 of shape (n,) or (n, channels)"),
        ("a.wav", np.zeros((1, 2, 3)), RATE, "samples are float64 (1, 2, 3); give float or int16 of shape (n,) or (n, channels)"),
        ("no/a.wav", TONE, RATE, "cannot be written: no such folder"),
        ("a.opus", TONE, 44100, "cannot be written at 44100 Hz: Opus only supports sample rates of 8000, 12000, 16000, 24000, and 48000"),
    ]
    for name, samples, rate, message in cases:
        with pytest.raises(AudioError) as error:
            write_audio(tmp_path / name, samples, rate)
        assert str(error.value) == f"{tmp_path / name}: {message}"
    assert not list(tmp_path.iterdir())
