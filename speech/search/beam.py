"""Beam search over label sequences, frame by frame, in buffers of fixed size: what transducer and CTC search share.

A hypothesis is a label sequence; its log-probability sums over all its alignments so far. Every frame extends each
hypothesis by nothing or by one label; where an extension equals a hypothesis that stays, the two are one and their
probabilities add. The best ``beam`` sequences go on.

Streams have no end, buffers have. Labels leave the buffer, for good, by two rules that look at a single frame:

- *settling*: when the best hypothesis has emitted nothing for ``settle`` frames, it is taken and the others dropped;
- *overflow*: when a hypothesis fills its ``max_length`` labels, the best one's first label is taken, and hypotheses
  that disagree with it are dropped (if the best has no label, those that are full are).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from riverrun.streaming import State, concatenate

from .base import Committed, Search, possible

NEVER = float("-inf")


@dataclass
class Beam(State):
    """K hypotheses of each stream; the first is the best, and those with log-probability -inf are not there."""

    ids: Tensor  # (slots, K, L) labels that are not final yet
    frames: Tensor  # (slots, K, L)
    scores: Tensor  # (slots, K, L)
    count: Tensor  # (slots, K) how many of the L there are
    last: Tensor  # (slots, K) last label, final or not; blank before the first
    silence: Tensor  # (slots, K) frames since the last label or settling
    log_probs: Tensor  # (slots, K) relative to the best
    total: Tensor  # (slots,) log-probability of the best since the last settling
    heard: Tensor  # (slots,) frames
    decided: Tensor  # (slots,) frames whose labels are final
    memory: Any  # a State: what the kind of search adds, (slots, K, …)


class Choice(NamedTuple):
    """The K sequences that go on after a frame."""

    parents: Tensor  # (S, K) which hypothesis each comes from
    labels: Tensor  # (S, K) the label it adds, or blank
    emitted: Tensor  # (S, K) whether it adds one
    log_probs: Tensor  # (S, K)
    arriving: Tensor  # (S, K) log-probability that reached it from a shorter hypothesis, for those that add none


class Hypotheses(NamedTuple):
    """The labels of each hypothesis that are not final, best first."""

    ids: Tensor  # (S, K, L) long
    frames: Tensor  # (S, K, L) long
    scores: Tensor  # (S, K, L)
    lengths: Tensor  # (S, K) long
    log_probs: Tensor  # (S, K) since the last settling; -inf where there is no hypothesis


class BeamSearch(Search):
    """Time-synchronous beam search: (S, C, E) -> ``Committed``, whose lengths count labels. No host synchronisation off the CPU.

    A label's frame is the one where it was emitted; where two alignments of a sequence meet, the later one's frame is
    taken if it brings more probability than all earlier ones.

    Args:
        beam: hypotheses kept, K.
        max_length: labels that a hypothesis may hold before they become final, L.
        settle: frames without a label after which the best hypothesis is final.
        blank: id of the blank.
        label_bonus: added to the log-probability for each label; against deletions, as length normalisation is,
            but independent of what is already final.

    Raises:
        ValueError: ``beam``, ``max_length`` or ``settle`` below 1.
    """

    def __init__(self, beam: int, max_length: int, settle: int, blank: int, label_bonus: float):
        super().__init__()
        for name, value in (("beam", beam), ("max_length", max_length), ("settle", settle)):
            if value < 1:
                raise ValueError(f"{name} is {value}: it must be at least 1")
        self.beam, self.max_length, self.settle, self.blank, self.label_bonus = beam, max_length, settle, blank, label_bonus

    @abstractmethod
    def begin(self, slots: int, like: Tensor) -> State:
        """The memory of hypotheses without labels, (slots, K, …)."""

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """What a frame's share of the work needs, once for a whole step: (S, C, E) -> (S, C, …)."""

    @abstractmethod
    def extend(self, frame: Tensor, state: Beam) -> tuple[Tensor, Tensor]:
        """One projected frame (S, …) -> log-probabilities of each hypothesis extended by each label, and the labels' own.

        Both (S, K, V) (the second may broadcast over K); the blank's column stands for adding nothing.
        """

    @abstractmethod
    def follow(self, frame: Tensor, state: Beam, choice: Choice) -> State:
        """The memory of the chosen sequences."""

    @torch.no_grad()
    def init_state(self, slots: int, like: Tensor) -> Beam:
        ids = torch.zeros(slots, self.beam, self.max_length, dtype=torch.long, device=like.device)
        count, heard = torch.zeros_like(ids[:, :, 0]), torch.zeros_like(ids[:, 0, 0])
        log_probs = like.new_full((slots, self.beam), NEVER)
        log_probs[:, 0] = 0
        total, scores = torch.zeros_like(log_probs[:, 0]), like.new_zeros(ids.shape)
        last = torch.full_like(count, self.blank)
        memory = self.begin(slots, like)
        return Beam(ids, ids.clone(), scores, count, last, count.clone(), log_probs, total, heard, heard.clone(), memory)

    @torch.no_grad()
    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Committed, Tensor]:
        y, counts, state = self.step(x, lengths, self.init_state(len(x), x))
        return concatenate([(y, counts), self.flush(state)])

    @torch.no_grad()
    def step(self, x: Tensor, lengths: Tensor, state: Beam) -> tuple[Committed, Tensor, Beam]:
        slots, size = x.shape[:2]
        # One column more than all labels that can come out, for what a frame does not commit.
        shape = (slots, self.max_length + size + 1)
        out = Committed(state.count.new_zeros(shape), state.count.new_zeros(shape), state.scores.new_zeros(shape))
        written = torch.zeros_like(state.heard)
        place = torch.arange(self.max_length, device=x.device)
        projected = self.project(x)
        for t in range(size):
            here = t < lengths
            after, ready = commit(self.advance(projected[:, t], state), self.settle)
            ready = torch.where(here, ready, 0)
            if possible(ready > 0):
                index = torch.where(place < ready[:, None], written[:, None] + place, shape[1] - 1)
                for field, values in zip(out, (after.ids, after.frames, after.scores), strict=True):
                    field.scatter_(1, index, values[:, 0])
                written = written + ready
                after = drop(after, ready)
            state = after.reset(~here, state) if possible(~here) else after
        return Committed(*(field[:, :-1] for field in out)), written, state

    def advance(self, frame: Tensor, state: Beam) -> Beam:
        """Hear one projected frame (S, …)."""
        grown, label_scores = self.extend(frame, state)
        label_scores = label_scores.expand_as(grown)
        vocabulary = grown.shape[-1]
        if self.label_bonus:
            grown = grown + self.label_bonus * (torch.arange(vocabulary, device=grown.device) != self.blank)
        grown, arriving, later, score = recombine(grown, label_scores, state, self.blank)

        log_probs, index = grown.flatten(1).topk(self.beam, -1)
        parents, labels = index // vocabulary, index % vocabulary
        emitted = labels != self.blank
        best = log_probs[:, :1]
        choice = Choice(parents, labels, emitted, log_probs, arriving.gather(1, parents))

        later = later.gather(1, parents) & ~emitted
        count = state.count.gather(1, parents)
        written = torch.arange(self.max_length, device=count.device) == torch.where(emitted, count, count - 1)[..., None]
        stamped = written & (emitted | later)[..., None]
        new_scores = torch.where(emitted, label_scores.flatten(1).gather(1, index), score.gather(1, parents))
        return Beam(
            torch.where(written & emitted[..., None], labels[..., None], pick(state.ids, parents)),
            torch.where(stamped, state.heard[:, None, None], pick(state.frames, parents)),
            torch.where(stamped, new_scores[..., None], pick(state.scores, parents)),
            count + emitted,
            torch.where(emitted, labels, state.last.gather(1, parents)),
            torch.where(emitted | later, 0, state.silence.gather(1, parents) + 1),
            log_probs - best,
            state.total + best[:, 0],
            state.heard + 1,
            state.decided,
            self.follow(frame, state, choice),
        )

    @torch.no_grad()
    def flush(self, state: Beam) -> tuple[Committed, Tensor]:
        return self.best(state)

    def best(self, state: Beam) -> tuple[Committed, Tensor]:
        return Committed(state.ids[:, 0], state.frames[:, 0], state.scores[:, 0]), state.count[:, 0]

    def decided(self, state: Beam) -> Tensor:
        return state.decided

    def nbest(self, state: Beam) -> Hypotheses:
        """All running hypotheses, best first."""
        log_probs, order = (state.log_probs + state.total[:, None]).sort(dim=-1, descending=True, stable=True)
        ids, frames, scores, count = (pick(field, order) for field in (state.ids, state.frames, state.scores, state.count))
        return Hypotheses(ids, frames, scores, count, log_probs)


def pick(values: Tensor, parents: Tensor) -> Tensor:
    """(S, K, …) of the hypotheses chosen by ``parents`` (S, K')."""
    return values[torch.arange(len(values), device=values.device)[:, None], parents]


def recombine(grown: Tensor, label_scores: Tensor, state: Beam, blank: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Join each extension that equals a hypothesis to that hypothesis, in the blank's column.

    Args:
        grown: log-probabilities (S, K, V) of each hypothesis extended by each label.
        label_scores: (S, K, V) log-probabilities of the labels alone.
        state: the hypotheses; pairwise different, as this function keeps them.
        blank: whose column stands for adding nothing.

    Returns:
        ``grown`` joined; and for each hypothesis (S, K) the log-probability that arrived, whether it was more than
        what was there, and the log-probability of the arriving label alone.
    """
    position = torch.arange(state.ids.shape[-1], device=grown.device)
    same = (state.ids[:, :, None] == state.ids[:, None]) | (position >= state.count[..., None, None])  # (S, shorter, longer, L)
    alive = state.log_probs > NEVER
    one_less = state.count[..., None] + 1 == state.count[:, None]
    equal = same.all(-1) & one_less & alive[..., None] & alive[:, None]
    label = state.last[:, None].expand_as(equal)  # what the shorter must add to equal the longer
    arriving = torch.where(equal, grown.gather(2, label), NEVER).amax(1)  # at most one hypothesis is one label shorter
    score = torch.where(equal, label_scores.gather(2, label), NEVER).amax(1)
    stay = grown[..., blank]
    joined = grown.scatter_add(2, label, torch.zeros_like(arriving)[:, None].masked_fill(equal, NEVER))
    joined[..., blank] = torch.logaddexp(stay, arriving)
    return joined, arriving, arriving > stay, score


def commit(state: Beam, settle: int) -> tuple[Beam, Tensor]:
    """Apply settling and overflow: hypotheses that disagree are gone, and the first n labels (S,) of the best are final."""
    first = state.ids[..., 0]
    alive, full = state.log_probs > NEVER, state.count >= state.ids.shape[-1]
    settled = state.silence[:, 0] >= settle
    overflow = (full & alive).any(-1)
    if not possible(settled | overflow):
        return state, torch.zeros_like(state.heard)
    some = state.count[:, 0] > 0
    ready = torch.where(settled, state.count[:, 0], overflow & some)
    agrees = torch.where(some[:, None], (first == first[:, :1]) & (state.count > 0), ~full)
    is_best = torch.arange(first.shape[1], device=first.device) == 0
    keep = torch.where(settled[:, None], is_best, agrees | ~overflow[:, None])
    after = replace(
        state,
        log_probs=state.log_probs.masked_fill(~keep, NEVER),
        silence=state.silence.masked_fill(settled[:, None], 0),
        total=state.total.masked_fill(settled, 0),
        decided=torch.where(settled, state.heard, torch.where(ready > 0, state.frames[:, 0, 0], state.decided)),
    )
    return after, ready


def drop(state: Beam, ready: Tensor) -> Beam:
    """Take the first ``ready`` (S,) labels, now final, out of the buffers; no remaining label may lie before them."""
    size = state.ids.shape[-1]
    final = state.frames[:, 0].gather(1, (ready - 1).clamp(min=0)[:, None]) * (ready > 0)[:, None]
    index = (torch.arange(size, device=ready.device) + ready[:, None]).clamp(max=size - 1)[:, None].expand_as(state.ids)
    return replace(
        state,
        ids=state.ids.gather(2, index),
        frames=state.frames.gather(2, index).maximum(final[..., None]),
        scores=state.scores.gather(2, index),
        count=(state.count - ready[:, None]).clamp(min=0),
    )
