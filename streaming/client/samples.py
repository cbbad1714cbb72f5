"""Arrays of any kind as the bytes that the protocol carries."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: More columns than any sound card has channels: an array that lies on its side.
_CHANNELS = 128


def mono(samples: ArrayLike) -> NDArray[np.float32]:
    """Audio of shape (n,) or (n, channels) as its channels' mean, float32 (n,).

    Integers of b bits are divided by 2^(b-1); unsigned ones are centred on half their range first, as in WAV files.

    Raises:
        ValueError: of another shape, not numbers, or not finite.
    """
    audio = np.asarray(samples)
    if audio.ndim not in (1, 2) or (audio.ndim == 2 and audio.shape[1] > _CHANNELS):
        advice = "; turn it round" if audio.ndim == 2 else ""
        raise ValueError(f"audio must be of shape (samples,) or (samples, channels), not {audio.shape}{advice}")
    if audio.dtype.kind in "iu":
        half = 2.0 ** (8 * audio.dtype.itemsize - 1)
        audio = (audio / half - (audio.dtype.kind == "u")).astype(np.float32)
    elif audio.dtype.kind != "f":
        raise ValueError(f"audio must be numbers, not {audio.dtype}")
    if not np.isfinite(audio).all():
        raise ValueError("audio holds NaN or infinite samples")
    return (audio.mean(1) if audio.ndim == 2 else audio).astype(np.float32)


def encode(audio: NDArray[np.float32], encoding: str) -> bytes:
    """Audio (n,) as ``pcm_s16le``, clipped to its range, or ``pcm_f32le``."""
    if encoding == "pcm_s16le":
        return (np.clip(audio, -1, 32767 / 32768) * 32768).round().astype("<i2").tobytes()
    return audio.astype("<f4").tobytes()
