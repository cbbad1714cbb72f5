"""One live stream: audio in, events out.

Arbitrary pieces of audio are cut here, and only here, into what the recogniser decides on. Nothing of a stream is
hidden elsewhere, so `Stream.save` holds all of it, and memory does not grow with time.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from .events import Event
from .recognizer import Front, Recognizer
from .snapshot import Position, pack, unpack
from .state import State
from .vad import SAMPLE_RATE, SileroVad, VadError, VoicedReader

Samples = npt.NDArray[np.float32] | npt.NDArray[np.int16]

#: Chunks that one step takes at most: a long piece is heard in few large steps, in bounded memory.
CHUNKS_PER_STEP = 16


class Stream:
    """A stream of one recogniser.

    Args:
        recognizer: the model.
        front: resampler, if the caller's audio has another rate.
        vad: voice activity detection, for endpoints to go by.

    Raises:
        VadError: the recogniser does not go by voice activity.

    ``push`` takes mono audio (n,), float32 in [-1, 1] or int16, of any length.
    """

    def __init__(self, recognizer: Recognizer, front: Front | None = None, vad: SileroVad | None = None):
        self._recognizer, self._front, self._reader, self._vad = recognizer, front, recognizer.reader(), vad
        self._parts: dict[str, State] = {"state": recognizer.init_state(1)}
        if vad:
            if recognizer.sample_rate != SAMPLE_RATE or not isinstance(self._reader, VoicedReader):
                raise VadError("this model's endpoints cannot go by voice activity")
            self._parts["vad"] = vad.init_state(1)
        self._pending = np.zeros(0, np.float32)
        self._heard = 0  # samples that the network has taken in
        self._finished = False

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self._finished = True

    @property
    def sample_rate(self) -> int:
        """Rate at which the recogniser hears."""
        return self._recognizer.sample_rate

    @property
    def seconds(self) -> float:
        """Audio pushed so far."""
        return (self._heard + len(self._pending)) / self._recognizer.sample_rate

    def push(self, samples: Samples) -> list[Event]:
        """Hear a piece.

        Raises:
            ValueError: the stream has ended, or the samples are not mono audio or not finite.
        """
        if self._finished:
            raise ValueError("the stream has ended: start a new one")
        audio = as_float(samples)
        return self._hear(self._front.push(audio) if self._front else audio)

    def finish(self) -> list[Event]:
        """End the stream: everything that was waiting is decided, nothing is lost."""
        if self._finished:
            return []
        events = self._hear(self._front.finish()) if self._front else []
        if len(self._pending):
            events += self._step(self._pending)
            self._pending = self._pending[:0]
        self._finished = True
        with torch.no_grad():
            return events + self._reader.finish(self._recognizer.flush(self._parts["state"]), 0)

    def _hear(self, audio: npt.NDArray[np.float32]) -> list[Event]:
        self._pending = np.concatenate([self._pending, audio])
        events: list[Event] = []
        while (size := self._ready()) > 0:
            events += self._step(self._pending[:size])
            self._pending = self._pending[size:]
        return events

    def _ready(self) -> int:
        """Pending samples that complete whole chunks, with the recogniser's delay behind each; 0 if none is complete."""
        chunk, delay = self._recognizer.chunk, self._recognizer.delay
        decided = max(self._heard - delay, 0) // chunk
        complete = min((self._heard + len(self._pending) - delay) // chunk, decided + CHUNKS_PER_STEP)
        return complete * chunk + delay - self._heard if complete > decided else 0

    def _step(self, audio: npt.NDArray[np.float32]) -> list[Event]:
        if self._vad and isinstance(self._reader, VoicedReader):
            speech, self._parts["vad"] = self._vad.step([audio], self._parts["vad"])
            self._reader.voice(speech[0])
        with torch.no_grad():
            output, state = self._recognizer.step(torch.from_numpy(audio)[None], torch.tensor([len(audio)]), self._parts["state"])
        self._parts["state"] = state
        self._heard += len(audio)
        return self._reader.read(output, 0)

    def save(self) -> bytes:
        """Everything that the stream remembers, as safetensors: no pickle.

        Raises:
            ValueError: the stream has ended.
        """
        if self._finished:
            raise ValueError("the stream has ended: there is nothing to save")
        front = self._front.to_bytes() if self._front else b""
        return pack(Position(self._pending, self._heard, front), self._reader, self._parts)

    def restore(self, data: bytes) -> None:
        """Go on where a saved stream of the same model, latency and sample rate stopped.

        Raises:
            StateError: the bytes are damaged or belong to another model.
        """
        position, self._front, self._parts = unpack(data, self._reader, self._front, self._parts)
        self._pending, self._heard = position.pending, position.heard


def as_float(samples: Samples) -> npt.NDArray[np.float32]:
    """Mono audio as float32 in [-1, 1].

    Raises:
        ValueError: not one-dimensional, of another type than float or int16, or not finite.
    """
    if samples.ndim != 1:
        raise ValueError(f"audio must be mono, of shape (samples,), not {samples.shape}")
    if samples.dtype == np.int16:
        return samples * np.float32(1 / 32768)
    if not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(f"audio must be float or int16, not {samples.dtype}")
    if not np.isfinite(samples).all():
        raise ValueError("audio holds NaN or infinite samples")
    return samples.astype(np.float32, copy=False)
