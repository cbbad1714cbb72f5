"""Batched best paths: CTC forced alignment and monotonic alignment search."""

from __future__ import annotations

import torch
from torch import Tensor

from ..library import operator, runs_triton
from . import reference


def _ctc(log_probs: Tensor, targets: Tensor, frames: Tensor, labels: Tensor, blank: int, star: int) -> tuple[Tensor, Tensor]:
    if runs_triton(log_probs):
        from . import triton as kernels

        if targets.shape[1] <= kernels.MAX_LABELS:
            return kernels.ctc(log_probs.contiguous(), targets.contiguous(), frames.contiguous(), labels.contiguous(), blank, star)
    return reference.ctc(log_probs, targets, frames, labels, blank, star)


def _ctc_like(log_probs: Tensor, *_: object) -> tuple[Tensor, Tensor]:
    dtype = torch.float64 if log_probs.dtype == torch.float64 else torch.float32
    return log_probs.new_empty(log_probs.shape[:2], dtype=torch.long), log_probs.new_empty(len(log_probs), dtype=dtype)


def _monotonic(scores: Tensor, labels: Tensor, frames: Tensor) -> Tensor:
    if runs_triton(scores):
        from . import triton as kernels

        if scores.shape[1] <= kernels.MAX_LABELS:
            return kernels.monotonic(scores, labels.contiguous(), frames.contiguous())
    return reference.monotonic(scores, labels, frames)


ctc = operator(
    "viterbi_ctc(Tensor log_probs, Tensor targets, Tensor frames, Tensor labels, int blank, int star) -> (Tensor, Tensor)", _ctc, _ctc_like
)
monotonic = operator(
    "viterbi_monotonic(Tensor scores, Tensor labels, Tensor frames) -> Tensor",
    _monotonic,
    lambda scores, *_: scores.new_empty(scores.shape[:2], dtype=torch.long),
)


def ctc_alignment(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor,
    target_lengths: Tensor,
    blank: int = 0,
    star: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Forced alignment: the most probable CTC path that spells ``targets``, for a batch of utterances.

    Of equally good paths the one is taken that, seen from the end, stays longest in a state; then one through a blank
    rather than straight from label to label; the last label wins over a blank behind it.

    Args:
        log_probs: (B, T, V); any float dtype, summed in float32 (float64 for float64).
        targets: (B, L) labels; padding is ignored.
        input_lengths: (B,) frames.
        target_lengths: (B,) labels.
        blank: index of blank.
        star: a label (any number from 0 on, best V) that matches whatever is heard at log-probability 0: put it into
            ``targets`` where something may have been said that the text does not have.

    Returns:
        path (B, T) int64, the position in ``targets`` of the label that a frame belongs to, −1 for blank and beyond the
        utterance; score (B,), the log-probability of the path, −inf (and a path without meaning) where all are impossible.

    Raises:
        ValueError: an utterance has fewer frames than its labels, and the blanks between equal ones, need.
    """
    follows = torch.arange(1, max(targets.shape[1], 1), device=targets.device) < target_lengths[:, None]
    needed = target_lengths + (follows & (targets[:, 1:] == targets[:, :-1])).sum(1)
    _check(
        (needed, input_lengths, "labels with the blanks between equal ones"),
        (input_lengths, log_probs.shape[1], "frames"),
        (target_lengths, targets.shape[1], "labels"),
    )
    return ctc(log_probs, targets, input_lengths, target_lengths, blank, -1 if star is None else star)


def monotonic_alignment(scores: Tensor, text_lengths: Tensor, frame_lengths: Tensor) -> Tensor:
    """Monotonic alignment search (Kim et al., "Glow-TTS", 2020): durations that maximise the sum of scores.

    Every token gets at least one frame, in order; of two equal ways into a frame the one that stays on a token wins.

    Args:
        scores: (B, N, T), any strides and float dtype: how well token n fits frame t (a log-likelihood).
        text_lengths: (B,) tokens.
        frame_lengths: (B,) frames.

    Returns:
        durations (B, N) int64, in frames; 0 beyond a text. They sum to ``frame_lengths`` unless the text is empty.

    Raises:
        ValueError: a text is longer than its frames.
    """
    _check((text_lengths, frame_lengths, "tokens"), (frame_lengths, scores.shape[2], "frames"), (text_lengths, scores.shape[1], "tokens"))
    return monotonic(scores, text_lengths, frame_lengths)


def _check(*limits: tuple[Tensor, Tensor | int, str]) -> None:
    """Raise for the first utterance whose number of something is over its limit; one wait for the device if none is."""
    over = torch.stack([needed > room for needed, room, _ in limits])
    if over.any():
        kind, item = (int(x) for x in over.nonzero()[0])
        needed, room, what = limits[kind]
        fit = int(room[item]) if isinstance(room, Tensor) else room
        raise ValueError(f"utterance {item} has {int(needed[item])} {what}, but only {fit} fit: shorten the text or give more frames")
