"""Alterations of log-mel features (B, T, bins)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .draw import altered, chance, uniform

_KNOTS = 5  # places that bend on their own: fewer than formants and their transitions need to stay smooth


def warp_frequency(features: Tensor, probability: float, limit: float = 0.12, bend: float = 0.0) -> Tensor:
    """Stretch the mel axis, as a whole and unevenly: another vocal tract.

    As a whole it is vocal tract length perturbation (Jaitly & Hinton 2013). Speakers also differ in the proportions of throat and
    mouth, which move formants apart from each other: between knots at even distances, each moved on its own, the axis is
    stretched linearly.

    Args:
        features: (B, T, bins) log-mel frames.
        probability: share of utterances that are altered.
        limit: largest relative stretch of the whole axis.
        bend: largest move of a knot, as a share of the distance between two; below 0.5, so that their order stays.
    """
    bins = features.shape[2]
    drawn = chance(features, probability)
    factor = 1 + uniform(features, -limit, limit) * drawn
    position = torch.arange(bins, device=features.device).expand(len(features), bins)
    if bend:
        gap = (bins - 1) / (_KNOTS - 1)
        moves = torch.empty(len(features), 1, _KNOTS, device=features.device).uniform_(-bend * gap, bend * gap) * drawn[:, None, None]
        position = position + nn.functional.interpolate(moves, bins, mode="linear", align_corners=True)[:, 0]
    position = (position * factor[:, None]).clamp(0, bins - 1)
    low = position.floor().long().clamp(max=bins - 2)
    weight = (position - low)[:, None]
    index = low[:, None].expand(features.shape)
    return features.gather(2, index) * (1 - weight) + features.gather(2, index + 1) * weight


def scale_contrast(features: Tensor, probability: float, limit: float = 0.35, width: int = 15) -> Tensor:
    """Sharpen or blur formants and harmonics: the difference of each bin from the mean of its neighbourhood, times 1 ± ``limit``.

    Voices differ in the bandwidths of their formants, breathiness and buzz, vocoders still more, as rooms and channels do not.

    Args:
        features: (B, T, bins) log-mel frames.
        probability: share of utterances that are altered.
        limit: largest relative change.
        width: bins of a neighbourhood, odd.
    """
    around = nn.functional.avg_pool1d(features, width, 1, width // 2, count_include_pad=False)
    factor = 1 + uniform(features, -limit, limit)
    return altered(probability, features, torch.lerp(around, features, factor[:, None, None]))


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
