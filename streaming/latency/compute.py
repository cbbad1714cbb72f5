"""What computing adds to a delay: as public tools add it up, and as a queue would have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

#: How computing counts: not at all, added up, or in a queue.
Aware = Literal["no", "additive", "queue"]


def additive(arrivals: Sequence[float], computes: Sequence[float]) -> list[float]:
    """When each chunk's output is there if all computing so far is added to the chunk's arrival, as SimulEval does.

    It is an upper bound: computing that was done while further audio came in counts again.

    Args:
        arrivals: of each chunk, in ms, not falling.
        computes: milliseconds of computing that each took.
    """
    total, finish = 0.0, []
    for arrival, compute in zip(arrivals, computes, strict=True):
        total += compute
        finish.append(arrival + total)
    return finish


def queue(arrivals: Sequence[float], computes: Sequence[float]) -> list[float]:
    """When each chunk's output is there, if a chunk is begun when it is there and the one before is done.

    finish_i = max(arrival_i, finish_{i-1}) + compute_i; arguments as of `additive`.
    """
    free, finish = float("-inf"), []
    for arrival, compute in zip(arrivals, computes, strict=True):
        free = max(arrival, free) + compute
        finish.append(free)
    return finish


def spent(delays: Sequence[float], elapsed: Sequence[float]) -> list[float]:
    """The computing between each word and the one before it, of SimulEval's ``elapsed`` (delay and all computing so far)."""
    so_far = [e - d for e, d in zip(elapsed, delays, strict=True)]
    return [now - before for now, before in zip(so_far, [0.0, *so_far], strict=False)]
