"""Slow, plain searches: the definitions that the fast ones are tested against."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from riverrun.speech.joiner import Joiner
from riverrun.speech.predictors import LstmPredictor
from riverrun.speech.search import Label

#: Log-probabilities of all symbols at a frame, after some labels.
Scorer = Callable[[int, tuple[int, ...]], list[float]]


def transducer(vocabulary: int = 3, seed: int = 0, sharpness: float = 1.0) -> tuple[LstmPredictor, Joiner]:
    """A random transducer over frames of 3 numbers, in float64."""
    torch.manual_seed(seed)
    predictor, joiner = LstmPredictor(vocabulary, 4), Joiner(3, 4, 6, vocabulary)
    for parameter in joiner.parameters():
        nn.init.normal_(parameter)
    with torch.no_grad():
        joiner.output.weight *= sharpness
    return predictor.double().eval(), joiner.double().eval()


def transducer_scorer(predictor: LstmPredictor, joiner: Joiner, x: Tensor) -> Scorer:
    """Scores of one input (T, 3), each label sequence read from its beginning."""
    seen: dict[tuple[int, tuple[int, ...]], list[float]] = {}

    def score(frame: int, labels: tuple[int, ...]) -> list[float]:
        if (frame, labels) not in seen:
            with torch.no_grad():
                y, _ = predictor(torch.tensor([[0, *labels]]), torch.tensor([len(labels) + 1]))
                seen[frame, labels] = joiner(x[frame], y[0, -1]).log_softmax(-1).tolist()
        return seen[frame, labels]

    return score


def logadd(a: float, b: float) -> float:
    high, low = max(a, b), min(a, b)
    return high if low == -math.inf else high + math.log1p(math.exp(low - high))


def greedy(score: Scorer, frames: int, max_symbols: int) -> list[Label]:
    found: list[Label] = []
    for t in range(frames):
        for _ in range(max_symbols):
            scores = score(t, tuple(label.id for label in found))
            best = max(range(len(scores)), key=scores.__getitem__)
            if best == 0:
                break
            found.append(Label(best, t, scores[best]))
    return found


def exhaustive_transducer(score: Scorer, frames: int, vocabulary: int) -> dict[tuple[int, ...], float]:
    """Log-probability of every label sequence: the sum over all alignments with at most one label a frame."""
    totals: dict[tuple[int, ...], float] = defaultdict(lambda: -math.inf)
    for path in itertools.product(range(vocabulary), repeat=frames):
        labels: tuple[int, ...] = ()
        total = 0.0
        for t, symbol in enumerate(path):
            total += score(t, labels)[symbol]
            labels += (symbol,) if symbol else ()
        totals[labels] = logadd(totals[labels], total)
    return totals


def exhaustive_ctc(scores: list[list[float]]) -> dict[tuple[int, ...], float]:
    """The same for CTC: over all paths that collapse to the sequence."""
    totals: dict[tuple[int, ...], float] = defaultdict(lambda: -math.inf)
    for path in itertools.product(range(len(scores[0])), repeat=len(scores)):
        labels = tuple(symbol for symbol, _ in itertools.groupby(path) if symbol)
        totals[labels] = logadd(totals[labels], sum(row[symbol] for row, symbol in zip(scores, path, strict=True)))
    return totals


@dataclass
class Hypothesis:
    total: float
    labels: list[Label]
    silence: int


def beam(score: Scorer, frames: int, size: int, max_length: int, settle: int) -> tuple[list[Label], list[int]]:
    """Modified beam search with settling and overflow, over whole sequences in a dictionary.

    Returns the labels, and how many of them were final after each frame.
    """
    running: dict[tuple[int, ...], Hypothesis] = {(): Hypothesis(0.0, [], 0)}
    final, history = 0, list[int]()
    for t in range(frames):
        stay = {key: Hypothesis(h.total + score(t, key)[0], list(h.labels), h.silence + 1) for key, h in running.items()}
        for key, h in running.items():
            for symbol, p in enumerate(score(t, key)):
                if not symbol:
                    continue
                total, longer, new = h.total + p, (*key, symbol), Label(symbol, t, p)
                if longer not in running:
                    stay[longer] = Hypothesis(total, [*h.labels, new], 0)
                    continue
                if total > running[longer].total + score(t, longer)[0]:
                    stay[longer].labels[-1], stay[longer].silence = new, 0
                stay[longer].total = logadd(stay[longer].total, total)
        running = dict(sorted(stay.items(), key=lambda item: -item[1].total)[:size])
        key, best = next(iter(running.items()))
        if best.silence >= settle:
            final, best.silence, running = len(key), 0, {key: best}
        elif any(len(other) - final == max_length for other in running):
            if len(key) > final:
                running = {other: h for other, h in running.items() if other[: final + 1] == key[: final + 1]}
                final += 1
                for h in running.values():
                    h.labels[:final] = best.labels[:final]
                    h.labels[final:] = [label._replace(frame=max(label.frame, best.labels[final - 1].frame)) for label in h.labels[final:]]
            else:
                running = {other: h for other, h in running.items() if len(other) - final < max_length}
        history.append(final)
    return next(iter(running.values())).labels, history
