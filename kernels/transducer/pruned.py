"""Pruned transducer loss, with the interface of k2 (Kuang et al., "Pruned RNN-T for fast, memory-efficient ASR training", 2022).

First a joiner that only adds encoder and predictor scores a whole lattice cheaply (``rnnt_loss_simple``); its gradient
says which few label positions matter on each frame (``get_rnnt_prune_ranges``); the real joiner runs on those alone
(``do_rnnt_pruning``, ``rnnt_loss_pruned``). ``boundary`` is (B, 4) rows of [0, 0, labels, frames]; lattices start at 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .loss import Reduction, bounded, reduce
from .op import arcs, lattice


def rnnt_loss_simple(
    lm: Tensor,
    am: Tensor,
    symbols: Tensor,
    termination_symbol: int,
    boundary: Tensor | None = None,
    lm_only_scale: float = 0.0,
    am_only_scale: float = 0.0,
    delay_penalty: float = 0.0,
    reduction: Reduction = "mean",
    return_grad: bool = False,
) -> Tensor | tuple[Tensor, tuple[Tensor, Tensor]]:
    """Transducer loss of the additive joiner lm + am, whose logits (B, S + 1, T, C) never exist.

    Args:
        lm: (B, S + 1, C) predictor scores; float32 or float64 (half types are widened).
        am: (B, T, C) encoder scores.
        symbols: (B, S) labels.
        termination_symbol: index of blank.
        boundary: (B, 4) or None for full lengths.
        lm_only_scale: share of the predictor's own distribution mixed in (k2's ``rnnt_loss_smoothed``).
        am_only_scale: share of the encoder's own distribution, with the mean predictor as prior.
        delay_penalty: added to a label arc for each frame it comes before the middle of the utterance (negative after it).
        reduction: "none", "mean" or "sum".
        return_grad: also return what ``get_rnnt_prune_ranges`` reads.

    Returns:
        the loss; with ``return_grad``, (loss, (px_grad (B, S, T), py_grad (B, S + 1, T))), the expected arc counts.
    """
    dtype = torch.promote_types(torch.promote_types(lm.dtype, am.dtype), torch.float32)
    with torch.autocast(lm.device.type, enabled=False):
        px, py = _simple_arcs(lm.to(dtype), am.to(dtype), symbols, termination_symbol, boundary, lm_only_scale, am_only_scale)
        frames, labels = _lengths(boundary, symbols, am.shape[1])
        total, px_grad, py_grad = lattice(_delayed(px, frames, delay_penalty), py, frames, labels, 0.0)
        loss = reduce(-total, reduction)
    return (loss, (px_grad, py_grad)) if return_grad else loss


def _simple_arcs(
    lm: Tensor, am: Tensor, symbols: Tensor, blank: int, boundary: Tensor | None, lm_only: float, am_only: float
) -> tuple[Tensor, Tensor]:
    """Label (B, S, T) and blank (B, S + 1, T) log-probabilities; the normaliser of all pairs is one matrix product."""
    lm_max, am_max = lm.detach().amax(2, keepdim=True), am.detach().amax(2, keepdim=True)
    lm_exp, am_exp = (lm - lm_max).exp(), (am - am_max).exp()
    tiny = torch.finfo(lm.dtype).tiny
    norm = (lm_exp @ am_exp.mT + tiny).log() + lm_max + am_max.mT
    index = symbols[..., None].long()
    lm_label, am_label = lm[:, :-1].gather(2, index), am.mT.gather(1, index.expand(-1, -1, am.shape[1]))
    lm_blank, am_blank = lm[..., blank, None], am[:, None, :, blank]
    px, py = lm_label + am_label - norm[:, :-1], lm_blank + am_blank - norm
    if lm_only or am_only:
        lm_norm = lm_exp.sum(2, keepdim=True)
        share = 1 - lm_only - am_only
        log_lm_norm = lm_norm.log() + lm_max
        prior = _mean_rows(lm_exp / lm_norm, boundary) + tiny  # (C,)
        am_norm = (am_exp @ prior + tiny).log()[:, None] + am_max.mT
        log_prior = prior.log()
        px = share * px + lm_only * (lm_label - log_lm_norm[:, :-1]) + am_only * (am_label + log_prior[index] - am_norm)
        py = share * py + lm_only * (lm_blank - log_lm_norm) + am_only * (am_blank + log_prior[blank] - am_norm)
    return px, py


def _mean_rows(x: Tensor, boundary: Tensor | None) -> Tensor:
    """Mean over the label positions in use of (B, S + 1, C)."""
    if boundary is None:
        return x.mean((0, 1))
    used = torch.arange(x.shape[1], device=x.device) <= boundary[:, 2:3]
    return torch.where(used[..., None], x, 0).sum((0, 1)) / used.sum().clamp(min=1)


def get_rnnt_prune_ranges(px_grad: Tensor, py_grad: Tensor, boundary: Tensor, s_range: int) -> Tensor:
    """The label positions worth keeping on each frame: those that most paths of the simple lattice visit.

    Successive frames start at most ``s_range − 1`` positions apart and never go back, the first at 0, the last where the
    range ends with the last label; so a path exists whenever T·(s_range − 1) ≥ S.

    Args:
        px_grad: (B, S, T) expected counts of label arcs (a (B, S, T + 1) tensor as k2 gives it is read as well).
        py_grad: (B, S + 1, T) expected counts of blank arcs.
        boundary: (B, 4).
        s_range: positions to keep; at least 2, and S + 1 if greater than that.

    Returns:
        (B, T, R) int64 label positions, R consecutive ones on each frame.

    Raises:
        ValueError: ``s_range`` below 2.
    """
    if s_range < 2:
        raise ValueError(f"s_range is {s_range}; a path needs at least 2 label positions on a frame")
    batch, height, time = py_grad.shape
    s_range = min(s_range, height)
    entered = torch.cat([px_grad.new_zeros(batch, 1, time), px_grad[:, :, :time]], 1)
    gain = py_grad.unfold(1, s_range, 1).sum(-1) - entered[:, : height - s_range + 1]
    last = (boundary[:, 2:3] - s_range + 1).clamp(min=0)
    frame = torch.arange(time, device=py_grad.device)
    begin = torch.where(frame < boundary[:, 3:4] - 1, gain.argmax(1), last)
    ahead = (s_range - 1) * frame
    begin = _running_min(begin)
    begin = ahead - _running_min(ahead - begin).clamp(min=0)
    return begin[..., None] + torch.arange(s_range, device=begin.device)


def _running_min(x: Tensor) -> Tensor:
    """Minimum of each element of (B, T) and those after it."""
    return x.flip(1).cummin(1).values.flip(1) if x.shape[1] else x


def do_rnnt_pruning(am: Tensor, lm: Tensor, ranges: Tensor) -> tuple[Tensor, Tensor]:
    """Encoder (B, T, C) and predictor (B, S + 1, C) frames at ``ranges`` (B, T, R): two (B, T, R, C) to feed a joiner."""
    batch, time, positions = ranges.shape
    picked = lm.gather(1, ranges.reshape(batch, -1, 1).expand(-1, -1, lm.shape[2]))
    return am[:, :, None].expand(-1, -1, positions, -1), picked.view(batch, time, positions, -1)


def rnnt_loss_pruned(
    logits: Tensor,
    symbols: Tensor,
    ranges: Tensor,
    termination_symbol: int,
    boundary: Tensor | None = None,
    delay_penalty: float = 0.0,
    reduction: Reduction = "mean",
    fastemit: float = 0.0,
) -> Tensor:
    """Transducer loss over the paths that stay within ``ranges``.

    Infinity, with zero gradient, for an utterance that has no such path.

    Args:
        logits: (B, T, R, C) joiner output at the kept label positions.
        symbols: (B, S) labels.
        ranges: (B, T, R) from ``get_rnnt_prune_ranges``: consecutive positions.
        termination_symbol: index of blank.
        boundary: (B, 4) or None for full lengths.
        delay_penalty: as in ``rnnt_loss_simple``.
        reduction: "none", "mean" or "sum".
        fastemit: λ of FastEmit.

    Raises:
        ValueError: ``logits`` and ``ranges`` of different shapes.
    """
    if logits.shape[:3] != ranges.shape:
        raise ValueError(f"logits {tuple(logits.shape)} do not belong to ranges {tuple(ranges.shape)}")
    frames, labels = _lengths(boundary, symbols, logits.shape[1])
    px, py, _ = arcs(logits, symbols, ranges[..., 0], frames, labels, termination_symbol)
    return reduce(-lattice(_delayed(px, frames, delay_penalty), py, frames, labels, fastemit)[0], reduction)


def _lengths(boundary: Tensor | None, symbols: Tensor, time: int) -> tuple[Tensor, Tensor]:
    if boundary is None:
        return symbols.new_full((len(symbols),), time), symbols.new_full((len(symbols),), symbols.shape[1])
    frames = bounded(boundary[:, 3], time, "boundary", symbols.device)
    return frames, bounded(boundary[:, 2], symbols.shape[1], "boundary", symbols.device)


def _delayed(px: Tensor, frames: Tensor, penalty: float) -> Tensor:
    if penalty == 0:
        return px
    early = (frames[:, None, None] - 1) / 2 - torch.arange(px.shape[2], device=px.device)
    return px + penalty * early.to(px.dtype)
