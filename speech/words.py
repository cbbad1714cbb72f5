"""Labels with frames to words with times."""

from __future__ import annotations

import math
from collections.abc import Sequence

from riverrun.streaming import Word

from .search.base import Label
from .tokenizer import Tokenizer


def words_of(labels: Sequence[Label], tokenizer: Tokenizer, frame_s: float, shift_s: float = 0.0) -> tuple[Word, ...]:
    """Group labels into words.

    A word lasts from its first label's frame to the end of its last label's, and never into the next word. ``shift_s``
    corrects for the model's habit of saying a label some time after its sound began; the confidence is the geometric
    mean of the labels' probabilities.
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
        start = max(group[0].frame * frame_s - shift_s, 0.0)
        end = max((group[-1].frame + 1) * frame_s - shift_s, start)
        if i + 1 < len(groups):
            end = min(end, max(groups[i + 1][0].frame * frame_s - shift_s, start))
        confidence = math.exp(min(sum(label.score for label in group) / len(group), 0.0))
        words.append(Word(text, round(start, 3), round(end, 3), round(confidence, 4)))
    return tuple(words)
