"""Labels with frames to words with times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from riverrun.streaming import Word

from .search.base import Label
from .tokenizer import Tokenizer


@dataclass(frozen=True)
class LabelDelay:
    """The model's habit of saying a label some time after its sound, in seconds, measured once: what word times are corrected by.

    Attributes:
        start: from a word's beginning to the beginning of its first label's frame, on average.
        end: from a word's end to the end of its last label's frame.
    """

    start: float = 0.0
    end: float = 0.0


def words_of(labels: Sequence[Label], tokenizer: Tokenizer, frame_s: float, delay: LabelDelay) -> tuple[Word, ...]:
    """Group labels into words.

    A word lasts from its first label's frame to the end of its last label's, both corrected by ``delay``, and never into
    the next word; its confidence is the geometric mean of the labels' probabilities.
    """
    groups: list[list[Label]] = []
    for label in labels:
        if not groups or tokenizer.starts_word(label.id):
            groups.append([])
        groups[-1].append(label)
    words = []
    for i, group in enumerate(groups):
        text = "".join(tokenizer.surface(label.id) for label in group)
        if not text:
            continue
        start = max(group[0].frame * frame_s - delay.start, 0.0)
        end = max((group[-1].frame + 1) * frame_s - delay.end, start)
        if i + 1 < len(groups):
            end = min(end, max(groups[i + 1][0].frame * frame_s - delay.start, start))
        confidence = math.exp(min(sum(label.score for label in group) / len(group), 0.0))
        words.append(Word(text, round(start, 3), round(end, 3), round(confidence, 4)))
    return tuple(words)
