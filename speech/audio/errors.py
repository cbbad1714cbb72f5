"""What is wrong with an audio file or stream."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class AudioError(ValueError):
    """Audio that cannot be read, resampled or written; the message is one line that names the source and says why."""


def reason(error: Exception) -> str:
    """What a decoder, an encoder or the system says, without its decoration."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return text.removeprefix("Error : ").rstrip(".")


def check_finite(name: str, block: NDArray[np.float32], start: int, sample_rate: int) -> None:
    """Refuse a block (n,) that holds NaN or infinities; it stands ``start`` samples into the audio ``name``."""
    finite = np.isfinite(block)
    if not finite.all():
        at = (start + int(finite.argmin())) / sample_rate
        raise AudioError(f"{name}: NaN or infinite samples from {at:.2f} s on; write the file again, in 16 bits if it need not be float")
