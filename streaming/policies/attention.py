"""Policies that look at where the decoder looks: EDAtt and AlignAtt.

Both drop the last source frame, on which attention rests when it has nothing to look for (a sink), and write tokens up to the
first one whose attention needs audio that is too new to be trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from .base import Hypothesis, Policy, PolicyError, Progress, check_whole


@dataclass(frozen=True)
class EDAtt(Policy):
    """Encoder-decoder attention (Papi et al. 2023, "Attention as a Guide for Simultaneous Speech Translation").

    Each token's attention, without the last frame and scaled to length 1 (L2), is summed over the newest ``lambda_`` frames; writing
    stops at the first token whose sum reaches ``alpha``. The paper's values of ``alpha``: 0.6, 0.4, 0.2, 0.1, 0.05, 0.03, at
    ``lambda_`` 2 and frames of 40 ms.
    """

    alpha: float = 0.2
    lambda_: int = 2
    name: ClassVar[str] = "edatt"
    needs_attention: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.alpha, (int, float)) or isinstance(self.alpha, bool) or not 0 < self.alpha <= 1:
            raise PolicyError(f"policy edatt: alpha is {self.alpha!r}: give a number above 0 and at most 1")
        check_whole("policy edatt", "lambda", self.lambda_, 1)

    def writable(self, hypothesis: Hypothesis, earlier: list[tuple[int, ...]], progress: Progress) -> int:
        rows = torch.nn.functional.normalize(hypothesis.attention[:, :-1].double(), dim=1)
        if not rows.shape[1]:
            return 0
        return _before_first(rows[:, -self.lambda_ :].sum(1) >= self.alpha)


@dataclass(frozen=True)
class AlignAtt(Policy):
    """Alignment by attention (Papi et al. 2023, "AlignAtt: Using Attention-based Audio-Translation Alignments as a Guide").

    Writing stops at the first token that attends most to one of the newest ``frames`` frames; since the very last one is dropped
    before, nothing that needs the last ``frames`` + 1 is written.

    Attributes:
        frames: in the units of the model's attention. The paper's values: 2, 4, … 14, of 40 ms.
        rewind: if a token attends more than so many frames before the one written before it, nothing is written: the attention has
            lost its place. None: never. Whisper: 200 frames of 20 ms.
    """

    frames: int = 8
    rewind: int | None = None
    name: ClassVar[str] = "alignatt"
    needs_attention: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_whole(f"policy {self.name}", "frames", self.frames, 1)
        if self.rewind is not None:
            check_whole(f"policy {self.name}", "rewind", self.rewind, 1)

    def writable(self, hypothesis: Hypothesis, earlier: list[tuple[int, ...]], progress: Progress) -> int:
        rows = hypothesis.attention[:, :-1]
        if not rows.shape[1]:
            return 0
        looks = rows.argmax(1)
        count = _before_first(looks >= rows.shape[1] - self.frames)
        if self.rewind is not None:
            places = [progress.last_frame, *looks[:count].tolist()]
            if any(now < before - self.rewind for before, now in zip(places, places[1:], strict=False)):
                return 0
        return count


def _before_first(stops: torch.Tensor) -> int:
    """Tokens before the first that is marked (tokens,)."""
    return int(stops.nonzero()[0]) if bool(stops.any()) else len(stops)
