"""Microphones: which there are, and their sound in blocks, none of it lost when the listener stalls for a moment.

``open_microphone("file:talk.wav")`` plays a recording at the pace of the clock as if it were a microphone, for tests and
demonstrations. Real microphones need the extra ``mic`` and the PortAudio library.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Block = NDArray[np.float32]

#: Before the path of a recording that stands in for a microphone.
FILE = "file:"
#: Rates to try, in Hz, with a microphone that refuses its own default.
_RATES = (48000, 44100, 32000, 16000, 8000)
#: PortAudio's error codes that say what a user can do.
_RATE, _CHANNELS, _BUSY = -9997, -9998, -9985


class MicrophoneError(ValueError):
    """A microphone that is not there, cannot be opened, or stopped."""


@dataclass(frozen=True)
class Microphone:
    """A device that can record.

    Attributes:
        index: PortAudio's number of it.
        name: as the system calls it.
        channels: that it has.
        sample_rate: its default, in Hz.
        default: whether it is the one that the system would choose.
    """

    index: int
    name: str
    channels: int
    sample_rate: int
    default: bool = False


def microphones() -> list[Microphone]:
    """The microphones of this machine.

    Raises:
        MicrophoneError: sounddevice or PortAudio is missing, or there is no microphone.
    """
    sound = _portaudio()
    try:
        default = sound.query_devices(kind="input")["index"]
    except (sound.PortAudioError, ValueError):  # the system names none
        default = None
    found = [
        Microphone(i, device["name"], device["max_input_channels"], int(device["default_samplerate"]), i == default)
        for i, device in enumerate(sound.query_devices())
        if device["max_input_channels"] > 0
    ]
    if not found:
        raise MicrophoneError("no microphone found; plug one in, or allow this program to use it")
    return found


def find_microphone(choice: int | str | None = None) -> Microphone:
    """The microphone of a number, or of a name or part of one in any case; the system's default if None.

    Raises:
        MicrophoneError: there is none, or several answer to the name.
    """
    found = microphones()
    listed = "; ".join(f"{m.index} {m.name}" for m in found)
    if choice is None:
        chosen = [m for m in found if m.default]
        if not chosen:
            raise MicrophoneError(f"there is no default microphone; choose one: {listed}")
    elif isinstance(choice, int) or choice.isdecimal():
        chosen = [m for m in found if m.index == int(choice)]
        if not chosen:
            raise MicrophoneError(f"device {choice} is no microphone; choose from {listed}")
    else:
        exact = [m for m in found if m.name == choice]
        chosen = exact[:1] or [m for m in found if choice.lower() in m.name.lower()]
        if not chosen:
            raise MicrophoneError(f"no microphone is called {choice!r}; choose from {listed}")
        if len(chosen) > 1:
            raise MicrophoneError(f"{choice!r} could be {' or '.join(f'{m.index} {m.name}' for m in chosen)}; give the number")
    return chosen[0]


class Recording(ABC):
    """Sound while it is being recorded: a context manager, to be iterated over for mono blocks (n,) float32 in [-1, 1].

    A thread queues what arrives, so that a listener may stall for ``keep_s`` seconds and miss nothing. What comes while the
    queue is full is lost, and ``trouble`` is told of it when the listener has come to the gap.

    Attributes:
        name: of the device.
        sample_rate: in Hz.
        lost: seconds of sound that found the queue full.
        overflows: times that the system itself reports lost sound, of unknown length.
    """

    def __init__(self, name: str, sample_rate: int, keep_s: float, trouble: Callable[[str], None] | None):
        self.name, self.sample_rate = name, sample_rate
        self.lost, self.overflows = 0.0, 0
        self._trouble = trouble or (lambda message: None)
        self._most = round(keep_s * sample_rate)
        self._items: deque[Block | str] = deque()  # sound, and what to tell of at its place
        self._held = self._missing = 0  # samples
        self._changed = threading.Condition()
        self._end: MicrophoneError | bool = False

    def __enter__(self) -> Self:
        """Start to record.

        Raises:
            MicrophoneError: the device does not open.
        """
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def __iter__(self) -> Iterator[Block]:
        """Blocks as they come, to the recording's end.

        Raises:
            MicrophoneError: the device stopped by itself.
        """
        while True:
            with self._changed:
                while not self._items and not self._missing and not self._end:
                    self._changed.wait(0.5)  # a wait without end cannot be interrupted everywhere
                item = self._take()
            if item is None:
                if isinstance(self._end, MicrophoneError):
                    raise self._end
                return
            if isinstance(item, str):
                self._trouble(item)
            else:
                yield item

    @abstractmethod
    def _start(self) -> None:
        """Begin to call `_put`."""

    @abstractmethod
    def _stop(self) -> None:
        """Call it no more."""

    def _put(self, block: Block, overflow: bool = False) -> None:
        """Queue what was recorded; ``overflow``: the system lost some before it. Called by the recording's thread."""
        with self._changed:
            if overflow:
                self.overflows += 1
                self._items.append(f"{self.name}: the system lost some sound; this machine is too busy")
            if self._held + len(block) > self._most:
                self._missing += len(block)
                self.lost += len(block) / self.sample_rate
            else:
                self._tell_missing()
                self._items.append(block)
                self._held += len(block)
            self._changed.notify()

    def _finish(self, error: MicrophoneError | None = None) -> None:
        """Nothing more comes."""
        with self._changed:
            self._end = self._end or error or True
            self._changed.notify()

    def _take(self) -> Block | str | None:
        if not self._items:
            self._tell_missing()
        if not self._items:
            return None
        item = self._items.popleft()
        if not isinstance(item, str):
            self._held -= len(item)
        return item

    def _tell_missing(self) -> None:
        if self._missing:
            self._items.append(f"{self.name}: {self._missing / self.sample_rate:.2f} s of sound were lost; this program did not keep up")
            self._missing = 0


class DeviceRecording(Recording):
    """What a microphone hears."""

    def __init__(
        self, microphone: Microphone, sample_rate: int | None, block_s: float, keep_s: float, trouble: Callable[[str], None] | None
    ):
        self._sound = _portaudio()
        self._microphone = microphone
        self._channels, rate = self._settings(sample_rate)
        self._size = max(round(rate * block_s), 1)
        self._stream: Any = None
        super().__init__(microphone.name, rate, keep_s, trouble)

    def _settings(self, sample_rate: int | None) -> tuple[int, int]:
        """Channels and rate that the device takes: mono at its own rate before all others."""
        own = self._microphone.sample_rate
        rates = (sample_rate,) if sample_rate else (own, *(rate for rate in _RATES if rate != own))
        for rate in rates:
            for channels in dict.fromkeys((1, self._microphone.channels)):
                try:
                    self._sound.check_input_settings(self._microphone.index, channels, "float32", None, rate)
                except self._sound.PortAudioError as error:
                    if _code(error) not in (_RATE, _CHANNELS):
                        raise self._refused(error) from None
                else:
                    return channels, rate
        tried = ", ".join(map(str, rates))
        advice = "leave the rate to it" if sample_rate else "choose another microphone"
        raise MicrophoneError(f"{self._microphone.name} does not record at {tried} Hz; {advice}")

    def _refused(self, error: Exception) -> MicrophoneError:
        if _code(error) == _BUSY:
            return MicrophoneError(f"{self._microphone.name} is busy; close the program that uses it, or choose another microphone")
        return MicrophoneError(f"{self._microphone.name} cannot be opened ({error.args[0]}); choose another microphone")

    def _start(self) -> None:
        def put(block: Block, frames: int, clock: Any, status: Any) -> None:
            self._put(block.mean(1, dtype=np.float32) if self._channels > 1 else block[:, 0].copy(), status.input_overflow)

        def gone() -> None:
            self._finish(MicrophoneError(f"{self._microphone.name} has stopped; was it unplugged?"))

        try:
            self._stream = self._sound.InputStream(
                self.sample_rate, self._size, self._microphone.index, self._channels, "float32", callback=put, finished_callback=gone
            )
            self._stream.start()
        except self._sound.PortAudioError as error:
            self._stop()
            raise self._refused(error) from None

    def _stop(self) -> None:
        self._finish()
        if self._stream is not None:
            self._stream.close()


class FileRecording(Recording):
    """A recording (wav, flac, ogg, opus, mp3) as a microphone would bring it, the mean of its channels."""

    def __init__(self, path: Path, block_s: float, keep_s: float, trouble: Callable[[str], None] | None):
        import soundfile

        if not path.is_file():
            raise MicrophoneError(f"{path}: no such recording")
        try:
            self._file = soundfile.SoundFile(path)
        except soundfile.LibsndfileError as error:
            raise MicrophoneError(f"{path}: not a recording that can be played ({error.error_string.rstrip('.')})") from None
        self._size = max(round(self._file.samplerate * block_s), 1)
        self._left = threading.Event()
        self._player = threading.Thread(target=self._play, name="riverrun-microphone", daemon=True)
        super().__init__(path.name, self._file.samplerate, keep_s, trouble)

    def _start(self) -> None:
        self._player.start()

    def _stop(self) -> None:
        self._left.set()
        self._player.join()
        self._file.close()

    def _play(self) -> None:
        due = time.monotonic()
        while len(piece := self._file.read(self._size, "float32", always_2d=True)):
            due += len(piece) / self.sample_rate
            if self._left.wait(max(due - time.monotonic(), 0)):
                break
            self._put(piece[:, 0] if piece.shape[1] == 1 else piece.mean(1, dtype=np.float32))
        self._finish()


def open_microphone(
    choice: int | str | None = None,
    *,
    sample_rate: int | None = None,
    block_s: float = 0.04,
    keep_s: float = 30.0,
    trouble: Callable[[str], None] | None = None,
) -> Recording:
    """A microphone, ready to record when it is entered.

    Args:
        choice: number or name, as in `find_microphone`; ``file:PATH`` plays a recording in its place.
        sample_rate: in Hz; the device's own if None.
        block_s: seconds of a block.
        keep_s: seconds of sound that wait for a listener that stalls.
        trouble: called with one line for each loss of sound, by the listener's thread.

    Raises:
        MicrophoneError: there is no such microphone, or it does not record so.
    """
    if isinstance(choice, str) and choice.startswith(FILE):
        if sample_rate is not None:
            raise MicrophoneError("a recording has its own sample rate; leave the rate to it")
        return FileRecording(Path(choice.removeprefix(FILE)), block_s, keep_s, trouble)
    return DeviceRecording(find_microphone(choice), sample_rate, block_s, keep_s, trouble)


def level_db(block: Block) -> float:
    """Level of a block (n,) in dB of full scale: 0 for the loudest square wave, -100 for silence and for nothing."""
    power = float(np.square(block, dtype=np.float64).mean()) if len(block) else 0.0
    return max(10 * float(np.log10(power)), -100.0) if power > 0 else -100.0


def _portaudio() -> Any:
    try:
        import sounddevice
    except ImportError:
        raise MicrophoneError("microphones need the package sounddevice; pip install 'riverrun[mic]'") from None
    except OSError:
        raise MicrophoneError("microphones need the PortAudio library; install it (Debian and Ubuntu: apt install libportaudio2)") from None
    return sounddevice


def _code(error: Exception) -> int | None:
    """PortAudio's number of an error."""
    return error.args[1] if len(error.args) > 1 else None
