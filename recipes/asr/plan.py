"""The order of training: which utterances make which batch, the same for every rank and after every restart."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from ..corpora.packed import SAMPLE_RATE
from .errors import TrainingError


class Planned(NamedTuple):
    """Utterances (B,), their playing speeds (B,), and the samples that the batch is padded to."""

    utterances: Tensor
    speed: Tensor
    samples: int


class Plan(IterableDataset):
    """Endless shuffled batches, each from one length bucket and full. All ranks have the same bucket in the same step.

    Args:
        seconds: (N,) durations.
        repeat: (N,) how often an epoch holds each utterance; fractions by chance.
        owner: (N,) the rank that holds each utterance.
        buckets: upper lengths in seconds; a batch is padded to its bucket.
        budget_s: seconds of audio in a batch of one rank, padding included.
        speed: largest relative change of playing speed.
        seed: order of everything.
        rank: whose batches these are.
        world: number of ranks.
        skip: batches that were trained on before, at the beginning.
    """

    def __init__(
        self,
        seconds: npt.NDArray[np.float64],
        repeat: npt.NDArray[np.float64],
        owner: npt.NDArray[np.int64],
        buckets: Sequence[float],
        budget_s: float,
        speed: float,
        seed: Sequence[int],
        rank: int = 0,
        world: int = 1,
        skip: int = 0,
    ):
        self.seconds, self.repeat, self.owner = seconds, repeat, owner
        self.buckets, self.budget_s, self.speed, self.seed = sorted(buckets), budget_s, speed, list(seed)
        self.rank, self.world, self.skip = rank, world, skip

    def __iter__(self) -> Iterator[Planned]:
        passed = 0
        for turn in count():
            batches = self._turn(turn)
            if passed + len(batches) <= self.skip:
                passed += len(batches)
                continue
            for number, (chosen, length) in enumerate(batches[max(self.skip - passed, 0) :], max(self.skip - passed, 0)):
                draw = np.random.default_rng([*self.seed, turn, number, self.rank])
                speed = draw.uniform(1 - self.speed, 1 + self.speed, len(chosen)).astype(np.float32)
                yield Planned(torch.from_numpy(chosen), torch.from_numpy(speed), math.ceil(length * SAMPLE_RATE))
            passed += len(batches)

    def _turn(self, turn: int) -> list[tuple[npt.NDArray[np.int64], float]]:
        """This rank's batches of one turn through all utterances."""
        draw = np.random.default_rng([*self.seed, turn])
        copies = np.floor(self.repeat + draw.random(len(self.repeat))).astype(int)
        order = draw.permutation(np.repeat(np.arange(len(self.seconds)), copies))
        bucket = np.searchsorted(self.buckets, self.seconds[order])
        batches: list[tuple[npt.NDArray[np.int64], float]] = []
        for i, length in enumerate(self.buckets):
            chosen = order[bucket == i]
            size = max(1, int(self.budget_s / length))
            shares = [chosen[self.owner[chosen] == rank] for rank in range(self.world)]
            if min(len(share) for share in shares):
                batches_here = max(math.ceil(len(share) / size) for share in shares)
                filled = np.resize(shares[self.rank], batches_here * size)  # the last batch begins anew at the first utterances
                batches += [(filled[at * size : (at + 1) * size], length) for at in range(batches_here)]
        if not batches:
            raise TrainingError("no bucket has an utterance for every rank: use more data or longer buckets")
        return [batches[at] for at in draw.permutation(len(batches))]
