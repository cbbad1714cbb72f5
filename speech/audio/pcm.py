"""Bare PCM from a pipe or a device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from .errors import AudioError, check_finite
from .reading import stream_name

#: Type of one sample, and what it is divided by.
ENCODINGS = {"pcm_s16le": ("<i2", 32768.0), "pcm_f32le": ("<f4", 1.0)}


def pcm_blocks(
    stream: BinaryIO, encoding: str = "pcm_s16le", sample_rate: int = 16000, channels: int = 1, seconds: float = 0.1
) -> Iterator[NDArray[np.float32]]:
    """Interleaved samples without a header as mono float32 blocks (n,), the mean of the channels, passed on as soon as they arrive.

    Args:
        stream: a blocking binary stream, read to its end; reads may stop anywhere, even inside a sample. An incomplete last frame is
            dropped.
        encoding: ``pcm_s16le`` or ``pcm_f32le``.
        sample_rate: in Hz; the blocks keep it.
        channels: in the stream.
        seconds: longest block.

    Raises:
        AudioError: an unknown encoding, no channel, a stream without a sample, or samples that are no finite numbers.
    """
    name = stream_name(stream)
    if encoding not in ENCODINGS:
        raise AudioError(f"{name}: unknown encoding {encoding!r}; choose one of {', '.join(ENCODINGS)}")
    if channels < 1:
        raise AudioError(f"{name}: {channels} channels; there must be 1 or more")
    dtype, scale = ENCODINGS[encoding]
    frame = np.dtype(dtype).itemsize * channels
    most = max(1, round(seconds * sample_rate)) * frame
    read = getattr(stream, "read1", stream.read)  # read would wait for a full block
    done, rest = 0, b""
    while data := read(most - len(rest)):
        whole = rest + data
        rest = whole[len(whole) // frame * frame :]
        samples = np.frombuffer(whole, dtype, count=len(whole) // frame * channels).astype(np.float32) / np.float32(scale)
        block = samples.reshape(-1, channels).mean(1)
        check_finite(name, block, done, sample_rate)
        done += len(block)
        if len(block):
            yield block
    if not done:
        raise AudioError(f"{name}: no audio in it (0 samples)")


__all__ = ["ENCODINGS", "pcm_blocks"]
