"""Audio files of any kind, length, rate and channel count as mono float32 blocks, in flat memory."""

from __future__ import annotations

import re
import shutil
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO, cast

import numpy as np
import soundfile
from numpy.typing import NDArray

from .errors import AudioError, check_finite, reason
from .resampling import RATES, resampled

#: Containers that PyAV reads: where their mark stands, the mark, and the one demuxer that may see them. No other is offered a file, as
#: some of them follow links to other files and hosts.
_CONTAINERS = (
    (4, b"ftyp", "mov"),
    (4, b"moov", "mov"),
    (0, b"\x1aE\xdf\xa3", "matroska"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "asf"),
    (0, b"\xff\xf1", "aac"),
    (0, b"\xff\xf9", "aac"),
)
_KINDS = "wav, flac, ogg, opus, mp3, m4a, mp4, webm, mkv"
_SPOOL = 1 << 24  # bytes of a pipe that are kept in memory before a temporary file takes over
_ENDLESS = 1 << 62  # libsndfile's count of frames when a header has none is about 2^63
_UNKNOWN = 0x7FFF0000  # a wav whose header claims this many bytes or more was written to a pipe, and claims nothing


class _Damaged(Exception):
    """A decoder gave up; says why."""


class AudioSource(ABC):
    """One opened recording; a context manager.

    Attributes:
        name: what error messages call it.
        sample_rate: of the recording, in Hz.
        channels: of the recording; blocks are their mean.
        duration: in seconds, as the file claims; None if it does not say.
        warning: one line on what was wrong with a file that could be read all the same; None while nothing is. A wav cut short is known
            when opened, other files only when they have been read to the end.
    """

    def __init__(self, name: str, sample_rate: int, channels: int, duration: float | None):
        if sample_rate not in RATES:
            raise AudioError(f"{name}: a sample rate of {sample_rate} Hz; rates from {RATES[0]} to {RATES[-1]} Hz can be read")
        self.name, self.sample_rate, self.channels, self.duration = name, sample_rate, channels, duration
        self.warning: str | None = None
        self._resources = ExitStack()

    @abstractmethod
    def _decode(self, frames: int) -> Iterator[NDArray[np.float32]]:
        """The recording from its beginning, in pieces (up to ``frames``, channels); raises ``_Damaged``."""

    def blocks(self, seconds: float = 10.0, sample_rate: int | None = None) -> Iterator[NDArray[np.float32]]:
        """The recording from its beginning, as mono blocks (n,); one such iteration at a time.

        Args:
            seconds: length of a block (of the last one: at most); blocks that are resampled vary a little.
            sample_rate: of the blocks; the recording's own when left out.

        Raises:
            AudioError: damaged, without a sample, or with samples that are no finite numbers; the blocks before are good.
        """
        if not seconds > 0:
            raise ValueError(f"blocks of {seconds} s; they must be longer than 0")
        own = self._mono(max(1, round(seconds * self.sample_rate)))
        return own if sample_rate is None or sample_rate == self.sample_rate else resampled(own, self.sample_rate, sample_rate)

    def _mono(self, frames: int) -> Iterator[NDArray[np.float32]]:
        done = 0
        try:
            for piece in self._decode(frames):
                block = piece[:, 0] if piece.shape[1] == 1 else piece.mean(1, dtype=np.float32)
                check_finite(self.name, block, done, self.sample_rate)
                done += len(block)
                yield block
        except _Damaged as error:
            raise AudioError(f"{self.name}: damaged after {done / self.sample_rate:.2f} s ({error}); get a whole copy of it") from None
        if not done:
            raise AudioError(f"{self.name}: no audio in it (0 samples)")
        self._compare(done / self.sample_rate)

    def _compare(self, read: float) -> None:
        """Warn if the file claims more seconds than there are; claims of compressed files are estimates."""
        if self.duration is not None and self.duration - read > max(0.1, 0.01 * self.duration):
            self.warning = f"{self.name}: cut short: {read:.2f} s of {self.duration:.2f} s are there"

    def close(self) -> None:
        """Let go of the file; a stream that the caller opened stays open."""
        self._resources.close()

    def __enter__(self) -> AudioSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Forward(soundfile.SoundFile):
    """A file that libsndfile reads from beginning to end.

    soundfile follows each read with a seek, which fails where no header says the length; and it would judge a stream by its name's suffix.
    """

    def __init__(self, stream: BinaryIO):
        stream.seek(0)
        super().__init__(SimpleNamespace(read=stream.read, seek=stream.seek, tell=stream.tell))

    def seekable(self) -> bool:
        return False


class _SoundFile(AudioSource):
    """What libsndfile reads."""

    def __init__(self, name: str, stream: BinaryIO):
        with _Forward(stream) as file:
            duration = file.frames / file.samplerate if file.frames < _ENDLESS else None
            super().__init__(name, file.samplerate, file.channels, duration)
            claim = re.search(r"^data : (\d+) \(should be (\d+)\)", file.extra_info, re.MULTILINE)
        if duration == 0:
            raise AudioError(f"{name}: no audio in it (0 samples)")
        if duration and claim and int(claim[2]) < int(claim[1]) < _UNKNOWN:
            self.warning = f"{name}: cut short: {duration:.2f} s of {duration * int(claim[1]) / int(claim[2]):.2f} s are there"
        self._stream = stream

    def _decode(self, frames: int) -> Iterator[NDArray[np.float32]]:
        try:
            with _Forward(self._stream) as file:
                while len(piece := file.read(frames, dtype="float32", always_2d=True)):
                    yield piece
        except soundfile.LibsndfileError as error:
            raise _Damaged(reason(error)) from None


class _Container(AudioSource):
    """What PyAV reads: the first audio track."""

    def __init__(self, name: str, stream: BinaryIO, kind: str):
        self._stream, self._kind = stream, kind
        with self._open() as container:
            if not container.streams.audio:
                raise AudioError(f"{name}: no audio track in it")
            track = container.streams.audio[0]
            super().__init__(name, track.rate, track.channels, container.duration / 1e6 if container.duration else None)

    def _open(self) -> Any:
        import av

        self._stream.seek(0)
        return av.open(self._stream, format=self._kind)

    def _decode(self, frames: int) -> Iterator[NDArray[np.float32]]:
        import av

        try:
            with self._open() as container:  # anew each time: after a seek, decoders forget to drop their padding
                track = container.streams.audio[0]
                same = av.AudioResampler(format="fltp", layout=track.layout, rate=self.sample_rate, frame_size=frames)
                for frame in chain(container.decode(track), (None,)):
                    for piece in same.resample(frame):
                        yield piece.to_ndarray().T
        except (av.FFmpegError, ValueError) as error:  # ValueError: the track's format changes
            raise _Damaged(reason(error)) from None


def open_audio(source: str | Path | BinaryIO) -> AudioSource:
    """Open a recording.

    Args:
        source: a path, or a binary stream, read from its beginning and not closed; one that cannot seek is copied first (to a temporary
            file when longer than 16 MB). wav, flac, ogg, opus, mp3 and what else libsndfile knows; m4a, mp4, webm, mkv, aac and wma
            through PyAV, where installed.

    Raises:
        AudioError: no such file, a folder, unreadable, empty, not audio, without an audio track, or cut off before its first sample.
    """
    with ExitStack() as resources:
        name, stream = _stream(source, resources)
        stream.seek(0)
        head = stream.read(16)
        if not head:
            raise AudioError(f"{name}: empty (0 bytes)")
        kind = next((demuxer for at, mark, demuxer in _CONTAINERS if head[at:].startswith(mark)), None)
        opened = _open_container(name, stream, kind) if kind else _open_soundfile(name, stream)
        opened._resources = resources.pop_all()
        return opened


def _stream(source: str | Path | BinaryIO, resources: ExitStack) -> tuple[str, BinaryIO]:
    """A stream that can seek, and its name; ``resources`` close what was opened here."""
    if isinstance(source, str | Path):
        name = str(source)
        try:
            stream: BinaryIO = resources.enter_context(Path(source).open("rb"))  # noqa: SIM115  # closed by resources
        except FileNotFoundError:
            raise AudioError(f"{name}: no such file") from None
        except IsADirectoryError:
            raise AudioError(f"{name}: a folder, not an audio file") from None
        except PermissionError:
            raise AudioError(f"{name}: may not be read; check the file's permissions") from None
        except (OSError, ValueError) as error:
            raise AudioError(f"{name}: cannot be read: {reason(error)}") from None
    else:
        stream = source
        name = stream_name(stream)
    if not stream.seekable():
        spool = resources.enter_context(tempfile.SpooledTemporaryFile(_SPOOL))  # noqa: SIM115  # closed by resources
        shutil.copyfileobj(stream, spool)
        stream = cast(BinaryIO, spool)
    return name, stream


def stream_name(stream: BinaryIO) -> str:
    """What error messages call a stream: its file's name, if it has one."""
    name = getattr(stream, "name", None)
    return name if isinstance(name, str) and name else "audio stream"


def _open_soundfile(name: str, stream: BinaryIO) -> AudioSource:
    try:
        return _SoundFile(name, stream)
    except soundfile.LibsndfileError as error:
        if error.code == 1 or "File does not exist" in error.error_string:  # said of an mp3 that holds no frame
            raise AudioError(f"{name}: not audio of a kind that can be read ({_KINDS})") from None
        raise AudioError(f"{name}: damaged: {reason(error)}; get a whole copy of it") from None


def _open_container(name: str, stream: BinaryIO, kind: str) -> AudioSource:
    try:
        import av
    except ImportError:
        raise AudioError(f"{name}: reading m4a, mp4, webm and mkv needs PyAV: pip install 'riverrun[video]'") from None
    try:
        return _Container(name, stream, kind)
    except av.FFmpegError as error:
        raise AudioError(f"{name}: damaged: {reason(error)}; get a whole copy of it") from None


def read_audio(source: str | Path | BinaryIO, sample_rate: int = 16000) -> NDArray[np.float32]:
    """A whole recording, mono (n,) at ``sample_rate``; what ``AudioSource.warning`` says becomes a Python warning.

    Raises:
        AudioError: as ``open_audio`` and ``AudioSource.blocks``.
    """
    with open_audio(source) as audio:
        samples = np.concatenate(list(audio.blocks(sample_rate=sample_rate)) or [np.zeros(0, np.float32)])
        if audio.warning:
            warnings.warn(audio.warning, stacklevel=2)
    return samples


__all__ = ["AudioSource", "open_audio", "read_audio", "stream_name"]
