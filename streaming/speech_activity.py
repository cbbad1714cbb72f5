"""Speech or silence by loudness alone: good enough to count what was spoken and to notice that a speaker has stopped.

A frame is speech if it is `MARGIN_DB` louder than the noise floor, which falls at once and rises slowly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .state import State, last_frames

FRAME_MS = 20
MARGIN_DB = 12.0
_QUIETEST_DB, _FIRST_DB, _RISE_DB = -65.0, -45.0, 0.02  # of the floor: its least, its first, its rise per frame


@dataclass
class Activity(State):
    """Samples that wait for their frame to fill, at the right end of ``waiting``, and the noise floor."""

    waiting: Tensor  # (slots, samples of a frame - 1)
    count: Tensor  # (slots,)
    floor: Tensor  # (slots,) dB of full scale


class SpeechActivity:
    """Marks frames of `FRAME_MS` as speech, for any number of streams.

    Args:
        sample_rate: of the audio.
    """

    def __init__(self, sample_rate: int):
        self.frame = sample_rate * FRAME_MS // 1000

    def init_state(self, slots: int, device: torch.device) -> Activity:
        """State of ``slots`` streams that have heard nothing."""
        waiting = torch.zeros(slots, self.frame - 1, device=device)
        floor = torch.full((slots,), _FIRST_DB, dtype=torch.float64, device=device)
        return Activity(waiting, torch.zeros(slots, dtype=torch.long, device=device), floor)

    def step(self, audio: Tensor, lengths: Tensor, state: Activity) -> tuple[Tensor, Tensor, Activity]:
        """Audio (S, C) and samples (S,), on the state's device -> whether each frame is speech (S, F), frames (S,), new state."""
        both = torch.cat([state.waiting, audio], 1)
        have = state.count + lengths
        frames = have // self.frame
        most = int(frames.max()) if len(frames) else 0
        index = (self.frame - 1 - state.count)[:, None] + torch.arange(most * self.frame, device=both.device)
        samples = both.gather(1, index.clamp(max=both.shape[1] - 1)).reshape(len(both), most, self.frame).double()
        level = 10 * torch.log10(samples.square().mean(2) + 1e-12)
        floor, speech = state.floor, []
        for i in range(most):
            lower = torch.minimum(level[:, i], floor + _RISE_DB).clamp(min=_QUIETEST_DB)
            speech.append(level[:, i] > lower + MARGIN_DB)
            floor = torch.where(i < frames, lower, floor)
        marks = torch.stack(speech, 1) if speech else torch.zeros(len(both), 0, dtype=torch.bool, device=both.device)
        return marks, frames, Activity(last_frames(state.waiting, audio, lengths), have - frames * self.frame, floor)
