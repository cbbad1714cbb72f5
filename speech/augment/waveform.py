"""Alterations of training audio in its room: level, noise, other speakers, reverberation, an overdriven recorder."""

from __future__ import annotations

import torch
from torch import Tensor

from riverrun.streaming import within

from .draw import altered, chance, uniform
from .spectrum import fast_size


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


def clip(audio: Tensor, probability: float, low: float = 0.1, high: float = 0.7) -> Tensor:
    """Cut off everything beyond a random share of the utterance's peak, and keep the peak: an overdriven recorder."""
    peak = audio.abs().amax(1, keepdim=True)
    share = uniform(audio, low, high)[:, None]
    return altered(probability, audio, (audio / share).clamp(-peak, peak))
