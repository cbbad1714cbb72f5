"""Raw Opus packets (RFC 6716), one in each binary message, decoded by PyAV.

What a packet may cost is known before it is decoded: its first bytes say how long it lasts, which is 120 ms at most.
"""

from __future__ import annotations

from collections import deque
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAMPLE_RATE = 48000  #: at which Opus counts, whatever it was made of

_LONGEST = SAMPLE_RATE * 120 // 1000  # samples of a packet
_BYTES = 48 * 1275 + 98  # of the largest packet that makes sense: 48 frames, their sizes and the head
#: Samples of earlier packets that a decoder hears before it goes on with a resumed stream: its memory is far shorter.
_PREROLL = SAMPLE_RATE


class OpusError(ValueError):
    """A message that is no Opus packet."""


@cache
def available() -> bool:
    """Whether PyAV is here."""
    return find_spec("av") is not None


class OpusDecoder:
    """One stream's packets to mono samples at 48 kHz. PyAV cannot save a decoder: `packets` restores one well enough to go on.

    Args:
        preroll: of the stream that is resumed.
    """

    def __init__(self, preroll: tuple[bytes, ...] = ()):
        import av

        self._decoder: Any = av.CodecContext.create("libopus" if "libopus" in av.codecs_available else "opus", "r")
        self._decoder.layout, self._decoder.sample_rate = "mono", SAMPLE_RATE
        self._packet, self._failure = av.Packet, av.FFmpegError
        self._kept: deque[tuple[int, bytes]] = deque()  # packets, with the sample before which they end
        self._samples = -sum(map(duration, preroll))
        for packet in preroll:
            self.decode(packet)

    def decode(self, packet: bytes) -> NDArray[np.float32]:
        """One packet to samples (n,) in [-1, 1].

        Raises:
            OpusError: it is none.
        """
        samples = duration(packet)
        try:
            frames = self._decoder.decode(self._packet(packet))
        except (self._failure, EOFError, ValueError):
            raise OpusError("a message is no Opus packet; send one raw packet in each") from None
        pieces = [_mono(frame.to_ndarray()) for frame in frames]
        audio = np.concatenate([np.zeros(0, np.float32), *pieces])[:samples]
        audio = np.pad(audio, (0, samples - len(audio)))  # what a damaged packet does not give is silent: positions stay true
        self._samples += samples
        self._kept.append((self._samples, packet))
        return audio

    def packets(self, samples: int) -> tuple[bytes, ...]:
        """The last packets before a position in the stream, and no longer any before them."""
        while self._kept and self._kept[0][0] <= samples - _PREROLL:
            self._kept.popleft()
        return tuple(packet for end, packet in self._kept if end <= samples)


def duration(packet: bytes) -> int:
    """Samples of a packet at 48 kHz, as its head tells (RFC 6716, section 3.1).

    Raises:
        OpusError: no packet begins so.
    """
    if not packet:
        raise OpusError("a message is empty; send one Opus packet in each")
    config, code = packet[0] >> 3, packet[0] & 3
    if config < 12:  # SILK: 10, 20, 40, 60 ms
        frame = (480, 960, 1920, 2880)[config & 3]
    elif config < 16:  # hybrid: 10, 20 ms
        frame = (480, 960)[config & 1]
    else:  # CELT: 2.5, 5, 10, 20 ms
        frame = (120, 240, 480, 960)[config & 3]
    if code == 3 and len(packet) < 2:
        raise OpusError("a message is a broken Opus packet; send one raw packet in each")
    frames = (1, 2, 2, packet[1] & 63 if code == 3 else 0)[code]
    if not 0 < frames * frame <= _LONGEST or len(packet) > _BYTES:
        raise OpusError("a message is no Opus packet, or more than one; send one raw packet in each")
    return frames * frame


def _mono(frame: NDArray[Any]) -> NDArray[np.float32]:
    """A decoded frame (1, n) as float32 in [-1, 1]."""
    audio = frame.reshape(-1)
    return audio * np.float32(1 / 32768) if audio.dtype == np.int16 else audio.astype(np.float32)


__all__ = ["SAMPLE_RATE", "OpusDecoder", "OpusError", "available", "duration"]
