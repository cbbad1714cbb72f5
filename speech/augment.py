"""Augmentation of training audio and features, batched and on the device of its input.

Waveform functions take audio (B, N) and real lengths (B,); feature functions take log-mel frames (B, T, bins). Every
function draws anew for each utterance.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from riverrun.streaming import within


def chance(x: Tensor, probability: float) -> Tensor:
    """(B,) bool: which utterances of the batch are altered."""
    return torch.rand(len(x), device=x.device) < probability


def uniform(x: Tensor, low: float, high: float) -> Tensor:
    """(B,) draws between ``low`` and ``high``."""
    return torch.empty(len(x), device=x.device).uniform_(low, high)


def fast_size(n: int) -> int:
    """The smallest 2^a·3^b·5^c that is at least ``n``: a size whose Fourier transform is fast."""
    return min(odd << (-(-n // odd) - 1).bit_length() for odd in (3**b * 5**c for b in range(7) for c in range(6)))


def random_gain(audio: Tensor, low_db: float = -15.0, high_db: float = 6.0) -> Tensor:
    """Level change, clipped to [-1, 1] as a recorder would."""
    return (audio * 10 ** (uniform(audio, low_db, high_db) / 20)[:, None]).clamp(-1, 1)


def add_noise(audio: Tensor, lengths: Tensor, probability: float, low_db: float = 5.0, high_db: float = 35.0) -> Tensor:
    """Stationary noise with a random spectral slope between white and brown, at a random signal-to-noise ratio."""
    size = audio.shape[1]
    spectrum = torch.fft.rfft(torch.randn_like(audio))
    frequency = torch.arange(1, spectrum.shape[1] + 1, device=audio.device) / spectrum.shape[1]
    noise = torch.fft.irfft(spectrum * frequency ** -uniform(audio, 0.0, 1.0)[:, None], size)
    return _mix(audio, noise, lengths, probability, low_db, high_db)


def add_babble(audio: Tensor, lengths: Tensor, probability: float, voices: int = 3, low_db: float = 8.0, high_db: float = 30.0) -> Tensor:
    """Other utterances of the batch, summed, at a random signal-to-noise ratio."""
    others = torch.stack([audio[torch.randperm(len(audio), device=audio.device)] for _ in range(voices)]).sum(0)
    return _mix(audio, others, lengths, probability, low_db, high_db)


def reverberate(audio: Tensor, probability: float, sample_rate: int = 16000, longest_s: float = 0.3) -> Tensor:
    """Convolution with exponentially decaying noise behind a direct path, a plain model of a room (Polack 1988)."""
    taps = int(longest_s * sample_rate)
    t = torch.arange(taps, device=audio.device) / sample_rate
    decay = uniform(audio, 0.05, longest_s)[:, None]  # time in which the tail falls by 60 dB
    tail = torch.randn(len(audio), taps, device=audio.device) * 10 ** (-3 * t / decay)
    tail = tail / tail.square().sum(1, keepdim=True).sqrt() * 10 ** (uniform(audio, -20.0, -2.0) / 20)[:, None]
    tail[:, 0] = 1
    size = fast_size(audio.shape[1] + taps)
    wet = torch.fft.irfft(torch.fft.rfft(audio, size) * torch.fft.rfft(tail, size), size)[:, : audio.shape[1]]
    return torch.where(chance(audio, probability)[:, None], wet, audio)


def _mix(audio: Tensor, noise: Tensor, lengths: Tensor, probability: float, low_db: float, high_db: float) -> Tensor:
    real = within(lengths, audio.shape[1])

    def level(x: Tensor) -> Tensor:
        return ((x.square() * real).sum(1) / lengths.clamp(min=1)).sqrt()[:, None]

    scale = level(audio) / level(noise).clamp(min=1e-6) * 10 ** (-uniform(audio, low_db, high_db) / 20)[:, None]
    return torch.where(chance(audio, probability)[:, None], audio + noise * scale, audio) * real


def equalise(features: Tensor, probability: float, strength: float = 1.5, knots: int = 6) -> Tensor:
    """A smooth random curve over the bins, in nepers of power: microphones and lines."""
    curve = F.interpolate(
        torch.randn(len(features), 1, knots, device=features.device) * strength, features.shape[2], mode="linear", align_corners=True
    )
    return features + curve * chance(features, probability)[:, None, None]


def band_limit(features: Tensor, probability: float, low_bin: int = 48, high_bin: int = 62) -> Tensor:
    """Lower everything above a random bin to the utterance's floor: telephone speech (3.4 kHz is near bin 57 of 80)."""
    edge = torch.randint(low_bin, high_bin, (len(features), 1, 1), device=features.device)
    above = torch.arange(features.shape[2], device=features.device) >= edge
    floor = features.amin((1, 2), keepdim=True) + torch.rand_like(features[:, :1, :1]) * 3
    return torch.where(above & chance(features, probability)[:, None, None], torch.minimum(features, floor), features)


def warp_frequency(features: Tensor, probability: float, limit: float = 0.12) -> Tensor:
    """Stretch the mel axis (vocal tract length perturbation; Jaitly & Hinton 2013)."""
    bins = features.shape[2]
    factor = 1 + uniform(features, -limit, limit) * chance(features, probability)
    position = (torch.arange(bins, device=features.device) * factor[:, None]).clamp(max=bins - 1)
    low = position.floor().long().clamp(max=bins - 2)
    weight = (position - low)[:, None]
    index = low[:, None].expand(features.shape)
    return features.gather(2, index) * (1 - weight) + features.gather(2, index + 1) * weight


def spec_augment(
    features: Tensor, lengths: Tensor, bands: int = 2, widest_band: int = 20, gaps: int = 6, widest_gap: float = 0.05
) -> Tensor:
    """SpecAugment (Park et al. 2019): mask bands of bins, and gaps in time up to a share of the length, with zero.

    Meant for normalised features, where zero is the mean.
    """
    b, t, d = features.shape
    device = features.device
    keep = torch.ones(b, t, d, dtype=torch.bool, device=device)
    for _ in range(bands):
        width = torch.randint(0, widest_band + 1, (b, 1), device=device)
        start = (torch.rand(b, 1, device=device) * (d - width)).long()
        bin = torch.arange(d, device=device)
        keep &= ((bin < start) | (bin >= start + width))[:, None]
    for _ in range(gaps):
        width = (torch.rand(b, 1, device=device) * widest_gap * lengths[:, None]).long()
        start = (torch.rand(b, 1, device=device) * (lengths[:, None] - width)).long()
        frame = torch.arange(t, device=device)
        keep &= ((frame < start) | (frame >= start + width))[:, :, None]
    return features * keep
