"""What coding does to training audio (B, N): coarse amplitudes, and spectra of which a coder keeps only what is loud."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .draw import altered, uniform

MU = 255.0


def quantise(audio: Tensor, probability: float, fewest_bits: float = 4.0, most_bits: float = 8.0) -> Tensor:
    """Logarithmic quantisation of the amplitude by the μ-law (ITU-T G.711, which has 8 bits), with a random number of bits."""
    steps = 2 ** (uniform(audio, fewest_bits, most_bits) - 1)[:, None]
    coded = torch.log1p(MU * audio.abs().clamp(max=1)) / math.log1p(MU)
    coded = (coded * steps).round() / steps
    return altered(probability, audio, audio.sign() * torch.expm1(coded * math.log1p(MU)) / MU)


def perceptual(audio: Tensor, probability: float, weakest: float = 0.02, strongest: float = 0.6, size: int = 512) -> Tensor:
    """Drop the components of short spectra that are weak beside their neighbours: what MP3 and Opus do at low rates.

    In windows of ``size`` samples that overlap by half, a component falls to zero if it is weaker than a random share
    (log-uniform from ``weakest`` to ``strongest``, one per utterance) of the mean of the 17 around it.
    """
    hop, n = size // 2, audio.shape[1]
    window = torch.hann_window(size, device=audio.device).sqrt()  # applied twice, overlapping halves add up to 1
    padded = F.pad(audio, (hop, hop + -n % hop))
    spectrum = torch.fft.rfft(padded.unfold(1, size, hop) * window)
    power = torch.view_as_real(spectrum).square().sum(-1)
    around = F.avg_pool1d(power.flatten(0, 1)[:, None], 17, 1, 8)[:, 0].view_as(power)
    share = uniform(audio, 2 * math.log(weakest), 2 * math.log(strongest)).exp()
    frames = torch.fft.irfft(spectrum * (power >= share[:, None, None] * around), size) * window
    overlapped = frames[:, 1:, :hop] + frames[:, :-1, hop:]
    return altered(probability, audio, overlapped.flatten(1)[:, :n])
