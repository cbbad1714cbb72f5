"""Beam search of an attention decoder: label by label, several texts at a time, going on from what is written already."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from ..decoders import DecoderState, TransformerDecoder


@dataclass(frozen=True)
class AttentionBeamConfig:
    """How to search.

    Attributes:
        beam: hypotheses kept for each text; 1 is greedy search.
        length_power: a finished hypothesis of n labels (its end included) is judged by log-probability / n^length_power.
    """

    beam: int = 4
    length_power: float = 1.0

    def __post_init__(self) -> None:
        if self.beam < 1:
            raise ValueError(f"a beam of {self.beam} holds nothing: use at least 1")
        if self.length_power < 0:
            raise ValueError(f"length_power must be 0 or more, not {self.length_power:g}")


class Continuation(NamedTuple):
    """The likeliest way to go on: labels without the end, log-probability, and whether the text was closed after them."""

    labels: tuple[int, ...]
    log_prob: float
    ended: bool


@dataclass
class _Text:
    """The search of one text: live hypotheses by their rows of the batch, and what has ended."""

    longest: int
    live: list[tuple[tuple[int, ...], float]] = field(default_factory=lambda: [((), 0.0)])
    ended: list[Continuation] = field(default_factory=list)

    def best(self, config: AttentionBeamConfig) -> Continuation:
        """The best that ended, or what was likeliest when the search had to stop."""
        found = self.ended or [Continuation(labels, score, False) for labels, score in self.live]
        return max(found, key=lambda c: c.log_prob / (len(c.labels) + c.ended) ** config.length_power if c.labels or c.ended else -math.inf)


@torch.no_grad()
def continue_texts(
    decoder: TransformerDecoder,
    source: Tensor,
    frames: Tensor,
    written: Sequence[Sequence[int]],
    longest: Sequence[int],
    config: AttentionBeamConfig | None = None,
    end: int = 0,
    forbidden: Tensor | None = None,
    forbidden_first: Tensor | None = None,
) -> list[Continuation]:
    """Search the likeliest continuation of each text over its own source.

    The search of a text ends when ``beam`` hypotheses have ended, or none that lives can still beat the best that has, or at
    ``longest``. A hypothesis ends where ``end`` is among the ``beam`` likeliest next labels, so that a beam of 1 is exactly greedy.

    Args:
        decoder: the network, in evaluation mode.
        source: (B, T, dim) encoder frames.
        frames: (B,) real ones, at least 1.
        written: labels that each text begins with, at least one (a beginning, a language tag, a forced prefix); they are not scored.
        longest: most new labels of each text, the end not counted.
        config: beam and length normalisation.
        end: the label that ends a text.
        forbidden: (outputs,) bool, labels that are never written.
        forbidden_first: (B, outputs) bool, labels that a continuation does not begin with.
    """
    config = config or AttentionBeamConfig()
    device = source.device
    counts = torch.tensor([len(w) for w in written], device=device)
    prompt = torch.nn.utils.rnn.pad_sequence([torch.tensor(w, dtype=torch.long) for w in written], batch_first=True).to(device)
    scores, state = decoder.step(prompt, counts, decoder.init_state(source, frames))
    scores = scores[torch.arange(len(prompt), device=device), counts - 1]
    texts = [_Text(most) for most in longest]
    going = [t for t in range(len(texts)) if texts[t].longest > 0]
    rows = torch.tensor(going, dtype=torch.long, device=device)
    scores, state = scores[rows], _gather(state, rows, rows)
    barred = forbidden_first[rows] if forbidden_first is not None else None
    while going:
        allowed = scores.float().log_softmax(-1)
        if forbidden is not None:
            allowed = allowed.masked_fill(forbidden, -torch.inf)
        if barred is not None:
            allowed, barred = allowed.masked_fill(barred, -torch.inf), None
        sizes = {t: len(texts[t].live) for t in going}
        parents, labels, still, at = [], [], [], 0
        total = allowed + torch.tensor([score for t in going for _, score in texts[t].live], device=device)[:, None]
        for t in going:
            text, first = texts[t], at
            at += len(text.live)
            chosen = _expand(text, total[first:at], config, end)
            if chosen:
                still.append(t)
                parents += [first + parent for parent, _ in chosen]
                labels += [label for _, label in chosen]
        if not still:
            break
        rows = torch.tensor(parents, device=device)
        settled = sizes == {t: len(texts[t].live) for t in still}  # every row goes on with the source that it has
        state = _gather(state, rows, None if settled else rows)
        going = still
        scores, state = decoder.step(torch.tensor(labels, device=device)[:, None], torch.ones_like(rows), state)
        scores = scores[:, 0]
    return [text.best(config) for text in texts]


def _expand(text: _Text, total: Tensor, config: AttentionBeamConfig, end: int) -> list[tuple[int, int]]:
    """Grow ``text`` by one label from scores (live, outputs); the new live hypotheses as (parent, label), none if the search is over."""
    best = total.flatten().topk(min(2 * config.beam, total.numel()))
    before, text.live = text.live, []
    chosen: list[tuple[int, int]] = []
    for rank, (score, place) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True)):
        parent, label = divmod(place, total.shape[1])
        if score == -math.inf or len(chosen) == config.beam:
            break
        if label == end:
            if rank < config.beam:
                text.ended.append(Continuation(before[parent][0], score, True))
        else:
            text.live.append(((*before[parent][0], label), score))
            chosen.append((parent, label))
    length = len(before[0][0]) + 1
    if not chosen or length > text.longest or len(text.ended) >= config.beam or _hopeless(text, config):
        if length > text.longest:
            text.live = before  # a label too many
        return []
    return chosen


def _hopeless(text: _Text, config: AttentionBeamConfig) -> bool:
    """Whether no live hypothesis can end better than the best that has: more labels only make it less likely."""
    if not text.ended:
        return False
    bound = max(score for _, score in text.live) / (text.longest + 1) ** config.length_power
    return max(c.log_prob / (len(c.labels) + 1) ** config.length_power for c in text.ended) >= bound


def _gather(state: DecoderState, rows: Tensor, sources: Tensor | None) -> DecoderState:
    """The texts of ``rows``; their sources, which are large, are moved only if ``sources`` says to which rows."""
    layers = []
    for layer in state.layers:
        memory = layer.memory if sources is None else layer.memory.gather(sources)
        layers.append(type(layer)(layer.past.gather(rows), memory, layer.look.gather(rows)))
    return DecoderState(layers)


__all__ = ["AttentionBeamConfig", "Continuation", "continue_texts"]
