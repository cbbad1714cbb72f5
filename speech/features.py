"""Log-mel filter-bank energies, equal to Kaldi's, live and whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from riverrun.streaming import Example, State, StreamingModule, concatenate, last_frames

#: Kaldi's floor under every energy, single precision's epsilon: silence is log(1.19e-7) = -15.94 in every dtype.
ENERGY_FLOOR = torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class LogMelConfig:
    """What the features are made of; the defaults are those of icefall and sherpa-onnx.

    Attributes:
        sample_rate: of the input, in Hz.
        bins: mel filters.
        low: lower edge of the lowest filter, in Hz.
        high: upper edge of the highest filter, in Hz; zero or less counts down from half the sample rate.
        frame_shift_ms: time from one frame to the next.
        frame_length_ms: length of the window; at least the shift.
        snip_edges: True keeps only frames that lie wholly in the signal; False centres frame t on (t + 1/2) shifts, mirrors the
            signal at both ends, and gives one frame for each shift, rounded.
        preemphasis: coefficient of the first difference taken within each frame.
    """

    sample_rate: int = 16000
    bins: int = 80
    low: float = 20.0
    high: float = -400.0
    frame_shift_ms: float = 10.0
    frame_length_ms: float = 25.0
    snip_edges: bool = False
    preemphasis: float = 0.97

    def __post_init__(self) -> None:
        if not 1 <= self.shift <= self.length or self.length < 2:
            raise ValueError(f"a frame shift of {self.shift} samples needs a frame length of at least as many, and 2; got {self.length}")
        if self.bins < 1 or not 0 <= self.low < self.top <= self.sample_rate / 2:
            raise ValueError(f"{self.bins} mel bins from {self.low:g} to {self.top:g} Hz do not fit below half of {self.sample_rate} Hz")

    @property
    def shift(self) -> int:
        """Samples from one frame to the next."""
        return int(self.sample_rate * 0.001 * self.frame_shift_ms)

    @property
    def length(self) -> int:
        """Samples in a frame."""
        return int(self.sample_rate * 0.001 * self.frame_length_ms)

    @property
    def fft(self) -> int:
        """Size of the Fourier transform: the frame length rounded up to a power of two."""
        return 1 << (self.length - 1).bit_length()

    @property
    def top(self) -> float:
        """Upper edge of the highest filter, in Hz."""
        return self.high if self.high > 0 else self.sample_rate / 2 + self.high


@dataclass
class LogMelState(State):
    """The samples that frames still to come can reach, and how many were heard."""

    window: Tensor  # (slots, frame length - 1)
    heard: Tensor  # (slots,) int64


class LogMel(StreamingModule):
    """Samples (S, C) in [-1, 1] -> natural-log mel energies (S, T', bins), as Kaldi's ``compute-fbank-feats`` gives without dither.

    Each frame: mean removed, pre-emphasis, Povey window (Hann to the power 0.85), zero-padded power spectrum, triangular filters
    equally wide in mel = 1127 ln(1 + f / 700), floor, logarithm. A stream of n samples has ``1 + (n - length) // shift`` frames with
    ``snip_edges`` (none if n < length), else ``(n + shift // 2) // shift``, the last of which come from ``flush``.

    A step costs O(bins · fft) a frame; the state holds ``length - 1`` samples and a counter. Autocast is off inside: half precision
    would spoil the spectrum.
    """

    def __init__(self, config: LogMelConfig | None = None):
        super().__init__()
        self.config = config = config or LogMelConfig()
        self.stride = config.shift
        self._early = 0 if config.snip_edges else config.length // 2 - config.shift // 2  # samples by which frame 0 precedes the signal
        self.left = self._early
        self.lookahead = config.length - config.shift - self._early
        self.register_buffer("window", povey_window(config.length).float(), persistent=False)
        self.register_buffer("filters", mel_filters(config).float(), persistent=False)
        self.window: Tensor
        self.filters: Tensor

    @classmethod
    def examples(cls) -> Iterable[Example]:
        for snip_edges in (False, True):
            config = LogMelConfig(1000, 3, 20.0, 0.0, frame_shift_ms=4, frame_length_ms=11, snip_edges=snip_edges)
            yield Example(cls(config), ())

    def init_state(self, slots: int, like: Tensor) -> LogMelState:
        return LogMelState(like.new_zeros(slots, self.config.length - 1), torch.zeros(slots, dtype=torch.long, device=like.device))

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        y, count, state = self.step(x, lengths, self.init_state(len(x), x))
        tail = self.flush(state)
        y, count = concatenate([(y, count), tail]) if tail else (y, count)
        reach = self.lookahead if self.config.snip_edges else -(self.stride // 2)
        return y[:, : max(x.shape[1] - reach, 0) // self.stride], count

    def step(self, x: Tensor, lengths: Tensor, state: LogMelState) -> tuple[Tensor, Tensor, LogMelState]:
        first, heard = self._complete(state.heard), state.heard + lengths
        y = self._frames(torch.cat([state.window, x], 1), state.heard, first, -(-x.shape[1] // self.stride))
        return y, self._complete(heard) - first, LogMelState(last_frames(state.window, x, lengths), heard)

    def flush(self, state: LogMelState) -> tuple[Tensor, Tensor] | None:
        """The frames that reach beyond the end, where the signal is mirrored; None with ``snip_edges``."""
        if self.config.snip_edges:
            return None
        first, last = self._complete(state.heard), (state.heard + self.stride // 2) // self.stride
        most = -(-(self.stride // 2 + self.lookahead) // self.stride)
        return self._frames(state.window, state.heard, first, most, end=state.heard), last - first

    def _complete(self, heard: Tensor) -> Tensor:
        """How many frames end within the first ``heard`` samples."""
        return ((heard - self.lookahead) // self.stride).clamp(min=0)

    def _frames(self, samples: Tensor, before: Tensor, first: Tensor, count: int, end: Tensor | None = None) -> Tensor:
        """``count`` frames of each slot from frame ``first`` (S,) on: (S, count, bins).

        ``samples`` (S, N) begin with the last ``length - 1`` of the ``before`` (S,) samples heard earlier. The signal is mirrored at its
        beginning and, if known, at its ``end`` (S,).
        """
        if not count:
            return samples.new_zeros(len(samples), 0, self.config.bins)
        size = (count - 1) * self.stride + self.config.length
        at = (first * self.stride - self._early)[:, None] + torch.arange(size, device=samples.device)
        if end is None:
            at = torch.where(at < 0, -1 - at, at)
        else:  # to and fro, for a signal may be shorter than what a frame reaches beyond it
            period = (2 * end).clamp(min=1)[:, None]
            at = at % period
            at = torch.minimum(at, period - 1 - at)
        at = (at - before[:, None] + self.config.length - 1).clamp(0, samples.shape[1] - 1)
        with torch.autocast(samples.device.type, enabled=False):
            return self._mel(samples.gather(1, at).unfold(1, self.config.length, self.stride))

    def _mel(self, frames: Tensor) -> Tensor:
        """Frames (S, T, length) -> log mel energies (S, T, bins)."""
        frames = frames - frames.mean(-1, keepdim=True)
        before = F.pad(frames[..., :-1], (1, 0), mode="replicate")
        spectrum = torch.fft.rfft((frames - self.config.preemphasis * before) * self.window, self.config.fft)
        power = torch.view_as_real(spectrum).square().sum(-1)
        return (power @ self.filters).clamp(min=ENERGY_FLOOR).log()


def povey_window(length: int) -> Tensor:
    """Kaldi's default window, (length,) float64: Hann, zero at both ends, to the power 0.85."""
    return torch.hann_window(length, periodic=False, dtype=torch.float64) ** 0.85


def mel_filters(config: LogMelConfig) -> Tensor:
    """Kaldi's triangular filters, (fft / 2 + 1, bins) float64; the bin at half the sample rate belongs to none.

    Raises:
        ValueError: a filter so narrow that it holds no frequency.
    """

    def mel(hertz: Tensor | float) -> Tensor:
        return 1127.0 * torch.log1p(torch.as_tensor(hertz, dtype=torch.float64) / 700.0)

    low, high = float(mel(config.low)), float(mel(config.top))
    edges = torch.linspace(low, high, config.bins + 2, dtype=torch.float64)
    frequency = mel(torch.arange(config.fft // 2 + 1, dtype=torch.float64) * config.sample_rate / config.fft)[:, None]
    rise, fall = (frequency - edges[:-2]) / (edges[1:-1] - edges[:-2]), (edges[2:] - frequency) / (edges[2:] - edges[1:-1])
    filters = torch.minimum(rise, fall).clamp(min=0)
    filters[-1] = 0
    if not (filters > 0).any(0).all():
        raise ValueError(f"{config.bins} mel bins are too many for spectra of {config.fft} points: some would be empty")
    return filters


__all__ = ["LogMel", "LogMelConfig", "LogMelState", "mel_filters", "povey_window"]
