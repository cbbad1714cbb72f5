"""Audio files written whole or not at all."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from .errors import AudioError, reason

#: libsndfile's format and sample type by suffix.
FORMATS = {
    ".wav": ("WAV", "PCM_16"),
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
_BLOCK = 1 << 16  # libsndfile's Vorbis encoder overflows its stack on minutes at a time


def write_audio(path: str | Path, samples: NDArray[Any], sample_rate: int) -> None:
    """Write samples (n,) or (n, channels) in the format of the path's suffix: wav and flac in 16 bits, ogg, opus, mp3.

    Floats in [-1, 1] are rounded to 1/32768 and clipped, so that 16-bit files read and written again stay as they were; int16 is taken
    as it is. The file appears under its name only when it is complete.

    Raises:
        AudioError: an unknown suffix, samples of another type or not finite, or a rate or place that cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise AudioError(f"{path}: cannot write audio as {path.suffix or 'a file without suffix'}; use one of {', '.join(FORMATS)}")
    file_format, subtype = FORMATS[path.suffix.lower()]
    samples = np.asarray(samples)
    if samples.ndim not in (1, 2) or not (samples.dtype == np.int16 or np.issubdtype(samples.dtype, np.floating)):
        raise AudioError(f"{path}: samples are {samples.dtype} {samples.shape}; give float or int16 of shape (n,) or (n, channels)")
    if not np.isfinite(samples).all():
        raise AudioError(f"{path}: NaN or infinite samples are not written")
    if not path.parent.is_dir():
        raise AudioError(f"{path}: cannot be written: no such folder")
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        channels = 1 if samples.ndim == 1 else samples.shape[1]
        with soundfile.SoundFile(temporary, "w", sample_rate, channels, subtype, format=file_format) as file:
            for start in range(0, len(samples), _BLOCK):
                block = samples[start : start + _BLOCK]
                if subtype == "PCM_16" and block.dtype != np.int16:
                    block = np.clip(np.rint(block * 32768.0), -32768, 32767).astype(np.int16)
                file.write(block)
        temporary.replace(path)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"{path}: cannot be written at {sample_rate} Hz: {reason(error)}") from None
    finally:
        temporary.unlink(missing_ok=True)


__all__ = ["FORMATS", "write_audio"]
