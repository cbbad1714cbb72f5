"""Policies that look at how a hypothesis stands the test of time: local agreement and hold-n."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .base import Hypothesis, Policy, Progress, check_whole


@dataclass(frozen=True)
class LocalAgreement(Policy):
    """LA-n: the longest common prefix of the last ``n`` hypotheses (Liu et al. 2020; Polák et al. 2022, CUNI-KIT at IWSLT).

    Nothing is written before there are ``n`` of them.
    """

    n: int = 2
    name: ClassVar[str] = "local-agreement"

    def __post_init__(self) -> None:
        check_whole("policy local-agreement", "n", self.n, 2, 16)
        object.__setattr__(self, "history", self.n - 1)

    def writable(self, hypothesis: Hypothesis, earlier: list[tuple[int, ...]], progress: Progress) -> int:
        if len(earlier) < self.n - 1:
            return 0
        agreed = 0
        for tokens in zip(hypothesis.tokens, *earlier, strict=False):
            if len(set(tokens)) > 1:
                break
            agreed += 1
        return agreed


@dataclass(frozen=True)
class HoldN(Policy):
    """hold-n: all but the last ``n`` tokens of a hypothesis (Liu et al. 2020, "Low-Latency Sequence-to-Sequence Speech Recognition")."""

    n: int = 4
    name: ClassVar[str] = "hold-n"

    def __post_init__(self) -> None:
        check_whole("policy hold-n", "n", self.n, 0)

    def writable(self, hypothesis: Hypothesis, earlier: list[tuple[int, ...]], progress: Progress) -> int:
        return max(len(hypothesis.tokens) - self.n, 0)


@dataclass(frozen=True)
class Retranslation(Policy):
    """Re-translation: nothing is written before the end, all of the hypothesis is shown and replaced (Arivazhagan et al. 2020).

    How much of what was shown changes is measured by `riverrun.streaming.latency.normalized_erasure`.

    Attributes:
        mask: the last tokens of a hypothesis, which are not shown while the source goes on.
    """

    mask: int = 0
    name: ClassVar[str] = "retranslation"

    def __post_init__(self) -> None:
        check_whole("policy retranslation", "mask", self.mask, 0)

    def writable(self, hypothesis: Hypothesis, earlier: list[tuple[int, ...]], progress: Progress) -> int:
        return 0

    def shown(self, tokens: int) -> int:
        return max(tokens - self.mask, 0)
