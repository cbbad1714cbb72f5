"""Filters in the frequency domain: what microphones, lines and codecs do to the spectrum of a recording.

A response is a gain (B, F) for the F frequencies from 0 to half the sample rate of a transform; `apply` multiplies
several into one pair of transforms. All are real and smooth, so they neither delay nor smear a recording for long.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .draw import chance, uniform

SAMPLE_RATE = 16000
_TAIL = 1024  # zeros behind the audio, so that a filter's ringing does not come round to its beginning


def fast_size(n: int) -> int:
    """The smallest 2^a·3^b·5^c that is at least ``n``: a size whose Fourier transform is fast."""
    return min(odd << (-(-n // odd) - 1).bit_length() for odd in (3**b * 5**c for b in range(7) for c in range(6)))


def channel(audio: Tensor, telephone: float = 0.0, equaliser: float = 0.0, narrow: float = 0.0) -> Tensor:
    """Audio (B, N) through a random line.

    Args:
        audio: (B, N).
        telephone: probability of a telephone band, `telephone_band`.
        equaliser: probability of a smooth random curve, `random_curve`.
        narrow: probability of a lower sample rate, `low_pass`.
    """
    size = fast_size(audio.shape[1] + _TAIL)
    hertz = torch.linspace(0, SAMPLE_RATE / 2, size // 2 + 1, device=audio.device)
    gain = _or_flat(audio, equaliser, random_curve(audio, hertz))
    gain = gain * _or_flat(audio, telephone, telephone_band(audio, hertz))
    gain = gain * _or_flat(audio, narrow, low_pass(audio, hertz))
    return torch.fft.irfft(torch.fft.rfft(audio, size) * gain, size)[:, : audio.shape[1]]


def telephone_band(like: Tensor, hertz: Tensor) -> Tensor:
    """(B, F): about 300 to 3400 Hz (ITU-T G.712), both edges and their steepness drawn anew for each of the B utterances."""
    low, high = uniform(like, 150.0, 400.0)[:, None], uniform(like, 3000.0, 3900.0)[:, None]
    return torch.sigmoid((hertz - low) / 30) * torch.sigmoid((high - hertz) / uniform(like, 20.0, 120.0)[:, None])


def low_pass(like: Tensor, hertz: Tensor, lowest: float = 2500.0, highest: float = 7500.0) -> Tensor:
    """(B, F): nothing above a random edge, as after a resampler or in a low-rate codec."""
    return torch.sigmoid((uniform(like, lowest, highest)[:, None] - hertz) / 40)


def random_curve(like: Tensor, hertz: Tensor, knots: int = 8, deviation_db: float = 6.0) -> Tensor:
    """(B, F): a smooth random curve along the mel axis, the deviation of its knots drawn up to ``deviation_db``."""
    depth = uniform(like, 0.0, deviation_db)[:, None]
    values = F.pad(torch.randn(len(like), knots, device=like.device) * depth, (0, 1), mode="replicate")
    mel = torch.log1p(hertz / 700)
    place = mel / mel[-1] * (knots - 1)
    low = place.long()
    curve = torch.lerp(values[:, low], values[:, low + 1], (place - low)[None].expand(len(like), -1))
    return 10 ** (curve / 20)


def _or_flat(audio: Tensor, probability: float, gain: Tensor) -> Tensor:
    return torch.where(chance(audio, probability)[:, None], gain, 1.0)
