"""Resampling of live and whole audio, by soxr, with a state that can be saved."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator

import numpy as np
import soxr
from numpy.typing import NDArray

from .errors import AudioError

RATES = range(1000, 768001)  #: sample rates that are taken, in Hz

_CONTEXT = 200  # samples of the slower rate that reach an output: soxr's longest HQ filter spans 100 on each side, measured
_SEGMENT = 0.5  # seconds of output between fresh starts
_HEADER = struct.Struct("<4sIIQQ")  # magic, rates, samples received and given
_MAGIC = b"rrs1"


class Resampler:
    """A mono stream from one sample rate to another: soxr at its HQ setting (passband to 91% of the lower Nyquist frequency).

    The output is the same samples bit for bit, however the input is cut, and across ``to_bytes`` and ``from_bytes``. n input samples
    give ``floor(n · target / source + 1/2)`` in all. soxr keeps about 60 ms back between 8 and 48 kHz, 115 ms between rates of two
    to one, more for rates far apart; ``finish`` gives the rest.

    soxr's own state cannot be saved. So the stream is made of segments of half a second (of whole periods of the rates' ratio): each
    comes from a soxr stream that began, at a place fixed by the segment's number, far enough before for the filter to have filled. The
    input since that beginning is the state: at most about 0.7 s between 8 and 96 kHz, and 2.5 s of any ratio, whose period may be as
    long as a second. This also keeps soxr's clock, which drifts when the ratio has large terms, from running away.
    """

    def __init__(self, source_rate: int, target_rate: int):
        """Start a stream.

        Args:
            source_rate: of the input, in Hz.
            target_rate: of the output, in Hz.

        Raises:
            AudioError: a rate outside ``RATES``.
        """
        for rate in (source_rate, target_rate):
            if rate not in RATES:
                raise AudioError(f"a sample rate of {rate} Hz; it must be a whole number from {RATES[0]} to {RATES[-1]}")
        self.source_rate, self.target_rate = source_rate, target_rate
        common = math.gcd(source_rate, target_rate)
        self._p, self._q = source_rate // common, target_rate // common  # p input samples last as long as q output samples
        self._segment = math.ceil(_SEGMENT * target_rate / self._q)  # in periods of p
        self._context = math.ceil(_CONTEXT * max(1, self._p / self._q) / self._p)
        self._received = self._given = 0
        self._ended = False
        self._restart(np.zeros(0, np.float32))

    def _restart(self, held: NDArray[np.float32]) -> None:
        """Begin the segment in which the next output lies; ``held`` is the input from its beginning on."""
        self._held = held
        self._soxr = soxr.ResampleStream(self.source_rate, self.target_rate, 1, dtype="float32", quality="HQ")
        self._fed = 0  # samples of ``held`` that soxr has had
        self._made = self._begin * self._q  # the output that soxr makes next

    @property
    def _number(self) -> int:
        return self._given // (self._segment * self._q)

    @property
    def _begin(self) -> int:
        """Where the input of the present segment begins, in periods."""
        return max(0, self._number * self._segment - self._context)

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take samples (n,) and give those that are ready (m,), both float32; n may be 0, and m often is."""
        if self._ended:
            raise ValueError("this stream was finished; start another Resampler")
        samples = np.asarray(samples, np.float32)
        self._received += len(samples)
        if self._p == self._q:
            self._given = self._received
            return samples
        self._held = np.concatenate([self._held, samples])
        return self._run(last=False)

    def finish(self) -> NDArray[np.float32]:
        """The samples kept back (m,), after which the stream is over."""
        self._ended = True
        return np.zeros(0, np.float32) if self._p == self._q else self._run(last=True)

    def _run(self, last: bool) -> NDArray[np.float32]:
        total = (2 * self._received * self._q + self._p) // (2 * self._p)
        out = [np.zeros(0, np.float32)]
        piece = max(1, self._segment * self._p // 8)  # small against a segment: what soxr makes beyond its end is thrown away
        while self._fed < len(self._held) or (last and self._given < total):
            end = (self._number + 1) * self._segment * self._q
            part = self._held[self._fed : self._fed + piece]
            self._fed += len(part)
            over = last and self._fed == len(self._held)
            made = self._soxr.resample_chunk(part, last=over)
            stop = min(end, total)
            fresh = made[max(0, self._given - self._made) : max(0, stop - self._made)]
            if over and self._given + len(fresh) < stop:  # soxr's clock may round the last half sample the other way
                fresh = np.pad(fresh, (0, stop - self._given - len(fresh)))
            self._made += len(made)
            self._given += len(fresh)
            out.append(fresh)
            if self._given == end:
                before = max(0, end // self._q - self._segment - self._context)
                self._restart(self._held[(self._begin - before) * self._p :])
        return np.concatenate(out)

    def to_bytes(self) -> bytes:
        """The stream's state; from there on ``from_bytes`` gives the output that this stream would give."""
        if self._ended:
            raise ValueError("this stream was finished; there is nothing to save")
        return _HEADER.pack(_MAGIC, self.source_rate, self.target_rate, self._received, self._given) + self._held.astype("<f4").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Resampler:
        """Go on with a stream saved by ``to_bytes``.

        Raises:
            AudioError: bytes that are no such state.
        """
        damaged = AudioError("saved state of a resampler is damaged")
        if len(data) < _HEADER.size or (len(data) - _HEADER.size) % 4:
            raise damaged
        magic, source_rate, target_rate, received, given = _HEADER.unpack_from(data)
        if magic != _MAGIC or source_rate not in RATES or target_rate not in RATES:
            raise damaged
        stream = cls(source_rate, target_rate)
        stream._received, stream._given = received, given
        stream._restart(np.frombuffer(data, "<f4", offset=_HEADER.size).astype(np.float32))
        expected = 0 if stream._p == stream._q else received - stream._begin * stream._p
        if len(stream._held) != expected:
            raise damaged
        return stream


def resampled(blocks: Iterable[NDArray[np.float32]], source_rate: int, target_rate: int) -> Iterator[NDArray[np.float32]]:
    """Mono blocks (n,) at one rate as blocks at another; empty ones are left out."""
    stream = Resampler(source_rate, target_rate)
    for block in blocks:
        if len(out := stream.push(block)):
            yield out
    if len(out := stream.finish()):
        yield out


__all__ = ["RATES", "Resampler", "resampled"]
