"""Feature normalisation by fixed statistics: the same for a file and for a live stream."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from riverrun.streaming import Example, PerFrame


class Normalise(PerFrame):
    """Subtract a mean and divide by a deviation per bin; both are part of the model, measured once on training data."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, bins: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(bins))
        self.register_buffer("deviation", torch.ones(bins))

    @classmethod
    def examples(cls) -> Iterable[Example]:
        yield Example(cls(3), (3,))

    def map(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.deviation

    def measure(self, x: Tensor, real: Tensor) -> None:
        """Set the statistics from frames ``x`` (B, T, bins) where ``real`` (B, T) is True."""
        frames = x[real].double()
        self.mean.copy_(frames.mean(0))
        self.deviation.copy_(frames.std(0).clamp(min=1e-3))
