"""Audio of one stream that waits to be heard: how much, since when, and whether it is urgent."""

from __future__ import annotations

import time
from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..pipeline import CHUNKS_PER_STEP
from ..recognizer import Recognizer

Audio = NDArray[np.float32]
Piece = NDArray[np.float32] | NDArray[np.int16]

#: Seconds of a piece that a microphone may have held back; of a longer piece, the rest counts as ahead of real time.
_LIVE = 0.5


class _Arrival(NamedTuple):
    """Audio before sample ``end`` came at ``at``, and was live at ``due`` or after."""

    end: int
    at: float
    due: float


class Backlog:
    """Mono audio at the recogniser's rate, cut into what the recogniser decides on.

    Args:
        recognizer: the model.
        pending: audio that waits already.
        heard: samples that the network has taken in.
        leads: whether the recogniser's delay is heard by itself, before the first chunk: then every further step is a whole number of
            chunks, for recorded steps, which have one shape.

    Attributes:
        heard: samples that the network has taken in.
        waiting: samples that it has not.
        clock: when the audio so far would have been spoken, at the latest.
    """

    def __init__(self, recognizer: Recognizer, pending: Audio, heard: int, leads: bool = False):
        self._chunk, self._delay, self._rate = recognizer.chunk, recognizer.delay, recognizer.sample_rate
        self._first = -1 if leads else 0
        self._pieces: deque[Piece] = deque([pending] if len(pending) else [])
        self.heard, self.waiting = heard, len(pending)
        self.clock = 0.0
        now = time.monotonic()
        self._arrivals = deque([_Arrival(heard + len(pending), now, now)] if len(pending) else [])

    @property
    def end(self) -> int:
        """Samples so far."""
        return self.heard + self.waiting

    @property
    def seconds(self) -> float:
        """How much waits that could be decided."""
        return max(self.waiting - self._delay, 0) / self._rate

    def append(self, audio: Piece, span: float = 0.0) -> None:
        """Take in a piece (n,) that came in the last ``span`` seconds; of integers, it is made float only when it is heard, with others."""
        now = time.monotonic()
        seconds = len(audio) / self._rate
        self.clock = max(self.clock, now - min(seconds, _LIVE + span)) + seconds
        self._pieces.append(audio)
        self.waiting += len(audio)
        due = max(now, self.clock)
        if self._arrivals and due - self._arrivals[-1].due < 0.005:  # many tiny pieces count as one
            now = self._arrivals.pop().at
        self._arrivals.append(_Arrival(self.end, now, due))

    def chunks(self, until: int | None = None) -> int:
        """Whole chunks that can be decided, with the recogniser's delay behind each; of the audio before sample ``until``, if given."""
        end = self.end if until is None else until
        return max((end - self._delay) // self._chunk - self._decided, 0)

    @property
    def leading(self) -> bool:
        """Whether the next of `chunks` is the delay alone."""
        return self._decided < 0

    def size(self, chunks: int) -> int:
        """Samples that so many chunks take in."""
        return (self._decided + chunks) * self._chunk + self._delay - self.heard if chunks else 0

    @property
    def wanted(self) -> int:
        """Samples that are missing for one more whole chunk."""
        return self.size(self.chunks() + 1) - self.waiting

    @property
    def since(self) -> float:
        """When the next chunk became complete."""
        arrival = self._completing()
        return arrival.at if arrival else self._arrivals[-1].at

    @property
    def due(self) -> float:
        """When the next chunk was spoken, as far as the clock can tell: it is not urgent before."""
        arrival = self._completing()
        return arrival.due if arrival else self.clock

    def _completing(self) -> _Arrival | None:
        end = self.heard + self.size(1)
        return next((arrival for arrival in self._arrivals if arrival.end >= end), None)

    def take(self, chunks: int) -> Audio:
        """Hear so many chunks, up to `CHUNKS_PER_STEP`."""
        size = self.size(min(chunks, CHUNKS_PER_STEP))
        audio = self.peek()
        self._pieces = deque([audio[size:]] if size < len(audio) else [])
        self.heard += size
        self.waiting -= size
        while len(self._arrivals) > 1 and self._arrivals[0].end <= self.heard + self._delay:
            self._arrivals.popleft()
        return audio[:size]

    def peek(self, size: int | None = None) -> Audio:
        """The next ``size`` samples, or all, without hearing them."""
        audio = np.empty(self.waiting, np.float32)
        at = 0
        for piece in self._pieces:
            here = audio[at : at + len(piece)]
            if piece.dtype == np.int16:
                np.multiply(piece, np.float32(1 / 32768), out=here)
            else:
                here[:] = piece
            at += len(piece)
        self._pieces = deque([audio] if at else [])
        return audio[:size]

    def clear(self) -> None:
        """Forget all that waits."""
        self._pieces.clear()
        self._arrivals.clear()
        self.waiting = 0

    @property
    def _decided(self) -> int:
        return max((self.heard - self._delay) // self._chunk, self._first)
