"""Draws that all alterations share: which utterances, how much."""

from __future__ import annotations

import torch
from torch import Tensor


def chance(x: Tensor, probability: float) -> Tensor:
    """(B,) bool: which utterances of the batch are altered."""
    return torch.rand(len(x), device=x.device) < probability


def uniform(x: Tensor, low: float, high: float) -> Tensor:
    """(B,) draws between ``low`` and ``high``."""
    return torch.empty(len(x), device=x.device).uniform_(low, high)


def altered(probability: float, before: Tensor, after: Tensor) -> Tensor:
    """``after`` for each utterance by chance, else ``before``; both (B, …)."""
    return torch.where(chance(before, probability).view(-1, *[1] * (before.dim() - 1)), after, before)
