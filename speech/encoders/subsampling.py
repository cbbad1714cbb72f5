"""Convolutional subsampling of log-mel frames by 4, causal: an output needs nothing beyond its own 4 frames."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from riverrun.streaming import Causal, Example, Frames, PerFrame, Series, last_frames, zero_padding


class TimeFrequencyConv(Causal):
    """3×3 convolution of stride 2 in time and frequency, then SiLU: (S, T, channels, bins) -> (S, T/2, …, bins/2).

    Output t covers input frames 2t and 2t+1 and sees frame 2t-1; an odd last frame is paired with zeros.
    """

    stride = unit = 2
    left = 1

    def __init__(self, channels_in: int, channels_out: int, bins: int):
        super().__init__()
        self.bins = bins
        self.conv = nn.Conv2d(channels_in, channels_out, 3, stride=2, padding=(0, 1))

    @classmethod
    def examples(cls) -> Iterable[Example]:
        yield Example(cls(2, 3, 5), (2, 5))

    def init_state(self, slots: int, like: Tensor) -> Frames:
        return Frames(like.new_zeros(slots, 1, self.conv.in_channels, self.bins))

    def step(self, x: Tensor, lengths: Tensor, state: Frames) -> tuple[Tensor, Tensor, Frames]:
        x = zero_padding(x, lengths)
        window = torch.cat([state.frames, F.pad(x, (0, 0, 0, 0, 0, x.shape[1] % 2))], 1)
        if window.shape[1] == 1:
            y = x.new_zeros(len(x), 0, self.conv.out_channels, (self.bins + 1) // 2)
        else:
            y = F.silu(self.conv(window.transpose(1, 2))).transpose(1, 2)
        return y, (lengths + 1) // 2, Frames(last_frames(state.frames, x, lengths))


class AddChannel(PerFrame):
    """(S, T, bins) -> (S, T, 1, bins)."""

    @classmethod
    def examples(cls) -> Iterable[Example]:
        yield Example(cls(), (3,))

    def map(self, x: Tensor) -> Tensor:
        return x[:, :, None]


class FrameLinear(PerFrame):
    """A linear map of each frame, flattened: (S, T, …) -> (S, T, dim)."""

    def __init__(self, frame: tuple[int, ...], dim: int):
        super().__init__()
        self.linear = nn.Linear(torch.Size(frame).numel(), dim)

    @classmethod
    def examples(cls) -> Iterable[Example]:
        yield Example(cls((2, 3), 4), (2, 3))

    def map(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(2))


class ConvSubsampling(Series):
    """Log-mel frames (S, T, bins) -> (S, ⌈T/4⌉, dim), 40 ms a frame for 10 ms features."""

    def __init__(self, bins: int, dim: int, channels: int):
        halved = (bins + 1) // 2
        super().__init__(
            AddChannel(),
            TimeFrequencyConv(1, channels, bins),
            TimeFrequencyConv(channels, channels, halved),
            FrameLinear((channels, (halved + 1) // 2), dim),
        )

    @classmethod
    def examples(cls) -> Iterable[Example]:
        yield Example(cls(7, 6, 3), (7,))
