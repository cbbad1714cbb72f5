"""Best monotonic paths in plain torch: the definition that the kernels are held to, ties included."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def ctc(log_probs: Tensor, targets: Tensor, frames: Tensor, labels: Tensor, blank: int, star: int) -> tuple[Tensor, Tensor]:
    """Best CTC path: labels in order, each for one or more frames, blanks between; equal neighbours need a blank.

    Of predecessors with equal scores the same state wins, then the blank just before a label, then the label before it;
    at the end the last label wins over the blank behind it.

    Args:
        log_probs: (B, T, V).
        targets: (B, L) integers.
        frames: (B,) number of frames.
        labels: (B,) number of labels.
        blank: index of blank.
        star: the label that matches anything at score 0, or a negative number.

    Returns:
        (B, T) int64, the position in ``targets`` of the label a frame belongs to, −1 for blank and past the end; and
        the score (B,), float32, or float64 for float64 input.
    """
    log_probs = log_probs if log_probs.dtype == torch.float64 else log_probs.float()
    batch, time, vocabulary = log_probs.shape
    steps, room = [], (0, 1)
    place = torch.arange(targets.shape[1] + 1, device=targets.device)
    impossible = log_probs.new_full((), float("-inf"))
    targets = F.pad(targets, room).long()
    any_label = targets == star
    column = torch.where(any_label | (place >= labels[:, None]), 0, targets)
    skips = F.pad(targets[:, 1:] != targets[:, :-1], (1, 0))  # a label may follow the one before it without a blank
    off = torch.where(place < labels[:, None], 0, impossible)
    in_blank = torch.where(place == 0, 0, impossible).expand(batch, -1)  # after label number `place`
    in_label = impossible.expand(batch, len(place))
    for t in range(time):
        before = F.pad(in_label[:, :-1], (1, 0), value=float("-inf"))
        skip = torch.where(skips, before, impossible)
        enters = in_blank > in_label
        jumps = skip > torch.maximum(in_label, in_blank)
        leaves = before > in_blank
        steps.append(torch.where(jumps, 2, enters.to(torch.uint8)) + 4 * leaves)
        emission = torch.where(any_label, 0, log_probs[:, t].gather(1, column)) + off
        next_label = torch.maximum(torch.maximum(in_label, in_blank), skip) + emission
        next_blank = torch.maximum(in_blank, before) + log_probs[:, t, blank, None]
        live = (t < frames)[:, None]
        in_label, in_blank = torch.where(live, next_label, in_label), torch.where(live, next_blank, in_blank)
    last = (labels - 1).clamp(min=0)[:, None]
    label_end = torch.where(labels[:, None] > 0, in_label.gather(1, last), impossible)[:, 0]
    blank_end = in_blank.gather(1, labels[:, None].long())[:, 0]
    is_label = label_end >= blank_end
    at = torch.where(is_label, labels - 1, labels).long()
    path = torch.full((batch, time), -1, device=targets.device)
    for t in reversed(range(time)):
        live = t < frames
        path[:, t] = torch.where(live & is_label, at, -1)
        step = steps[t].gather(1, at[:, None])[:, 0]
        to_label, to_blank = step & 3, step >> 2
        back = torch.where(is_label, to_label == 2, to_blank == 1)
        now_label = torch.where(is_label, to_label != 1, to_blank == 1)
        at = torch.where(live & back, at - 1, at)
        is_label = torch.where(live, now_label, is_label)
    return path, torch.maximum(label_end, blank_end)


def monotonic(scores: Tensor, labels: Tensor, frames: Tensor) -> Tensor:
    """Durations of the best monotonic alignment (Kim et al., "Glow-TTS", 2020): Q[i, j] = max(Q[i, j − 1], Q[i − 1, j − 1]) + s[i, j].

    Of two equal predecessors the same label wins.

    Args:
        scores: (B, N, T).
        labels: (B,) number of labels, at most ``frames``.
        frames: (B,) number of frames.

    Returns:
        (B, N) int64: frames of each label, at least 1, and 0 past the end.
    """
    batch, height, time = scores.shape
    scores = scores if scores.dtype == torch.float64 else scores.float()
    best = scores.new_full((batch, height), float("-inf"))
    moves = []
    for t in range(time):
        before = F.pad(best[:, :-1], (1, 0), value=float("-inf") if t else 0.0)
        moves.append(before > best)
        best = torch.maximum(best, before) + scores[:, :, t]
    at, durations = labels - 1, torch.zeros(batch, height + 1, dtype=torch.long, device=scores.device)
    row = torch.arange(batch, device=scores.device)
    for t in reversed(range(time)):
        live = (t < frames) & (labels > 0)
        place = torch.where(live, at, height)
        durations[row, place] += 1
        moved = moves[t][row, at.clamp(min=0)]
        at = torch.where(live & moved, at - 1, at)
    return durations[:, :-1]
