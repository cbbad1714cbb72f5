"""From raw attention of several heads to one row of source frames for each target token."""

from __future__ import annotations

import torch
from torch import Tensor


def standardise(attention: Tensor) -> Tensor:
    """Each frame's weights as z-scores over the queries: (…, queries, frames) -> the same.

    What every query attends to, such as a sink, stands out no more. A frame whose weights do not vary is 0.
    """
    spread, mean = torch.std_mean(attention, dim=-2, keepdim=True, correction=0)
    return (attention - mean) / spread.clamp(min=torch.finfo(attention.dtype).tiny)


def median_filter(attention: Tensor, width: int) -> Tensor:
    """Running median over the frames (…, frames), mirrored at the ends; as it is where there are no more frames than half a ``width``.

    Args:
        attention: float.
        width: odd.
    """
    half = width // 2
    if attention.shape[-1] <= half:
        return attention
    flat = attention.reshape(1, -1, attention.shape[-1])
    padded = torch.nn.functional.pad(flat, (half, half), mode="reflect")
    return padded.unfold(-1, width, 1).median(-1).values.reshape(attention.shape)


def mean_of_heads(attention: Tensor) -> Tensor:
    """(heads, queries, frames) -> (queries, frames)."""
    return attention.mean(0)
