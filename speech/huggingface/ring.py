"""The source of a model that encodes anew at each decision: the newest audio, in a ring of fixed size."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from riverrun.streaming import State, last_frames


@dataclass
class AudioRing(State):
    """The newest samples of each stream, at the ring's right end."""

    samples: Tensor  # (slots, most samples) float32
    held: Tensor  # (slots,) int64, how many of them are audio that is not forgotten


class RingSource(ABC):
    """The hearing half of an `riverrun.streaming.attention_model.AttentionModel` whose encoder looks at everything at once.

    What a decision says depends on the samples held alone, so any way of cutting the audio gives the same.
    """

    sample_rate: int
    delay: int = 0
    frame_ms: float
    most_frames: int

    @property
    def frame_samples(self) -> int:
        """Samples that a frame stands for."""
        return round(self.frame_ms * self.sample_rate / 1000)

    @abstractmethod
    def columns(self, samples: Tensor) -> Tensor:
        """Frames (…,) int64 that the encoder makes of so many samples (…,)."""

    def init_source(self, slots: int) -> AudioRing:
        """Sources of ``slots`` streams that have heard nothing."""
        return AudioRing(torch.zeros(slots, self.most_frames * self.frame_samples), torch.zeros(slots, dtype=torch.long))

    def hear(self, audio: Tensor, lengths: Tensor, source: AudioRing) -> AudioRing:
        """Audio (S, C) float32 in [-1, 1], samples (S,), sources -> sources."""
        ring = source.samples
        held = (source.held + lengths.to(ring.device)).clamp(max=ring.shape[1])
        return AudioRing(last_frames(ring, audio.to(ring), lengths.to(ring.device)), held)

    def finish(self, source: AudioRing) -> AudioRing:
        """Nothing waits."""
        return source

    def frames(self, source: AudioRing) -> Tensor:
        """Frames (S,) that the encoder will make of what each stream holds."""
        return self.columns(source.held)

    def forget(self, source: AudioRing, frames: Tensor) -> AudioRing:
        """Drop each stream's oldest ``frames`` (S,) frames, all that it has if it has fewer."""
        return AudioRing(source.samples, (source.held - frames.to(source.held) * self.frame_samples).clamp(min=0))

    def audio(self, source: AudioRing, slot: int) -> Tensor:
        """What the stream in ``slot`` holds: samples (n,)."""
        held = int(source.held[slot])
        return source.samples[slot, source.samples.shape[1] - held :]

    def source_words(self, source: AudioRing) -> None:
        """These models have no CTC head."""
