"""Alterations of log-mel features (B, T, bins)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .draw import chance, uniform


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
