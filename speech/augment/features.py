"""Alterations of log-mel features (B, T, bins)."""

from __future__ import annotations

import torch
from torch import Tensor

from .draw import chance, uniform


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
