"""What a simultaneous translation policy is: given a hypothesis and how far the source has come, how much of it to write.

A policy decides once for each chunk of source, at places that depend on the audio alone, never on how the audio was cut
into pieces: that is how the law holds for it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

if TYPE_CHECKING:
    from .history import History


class PolicyError(ValueError):
    """A policy that does not exist, an option that it lacks or that is out of range, or a model that it cannot run on."""


@dataclass(frozen=True)
class Hypothesis:
    """How the model would go on from what is written, if the source ended here.

    Attributes:
        tokens: the continuation, without the end-of-sentence token and without what is already written.
        starts: for each token, whether it begins a word.
        attention: (tokens, frames) float32: row i is the attention of the query that predicts token i over the source
            frames held, oldest first; the policies drop the sink frame themselves. (tokens, 0) of a model without cross-attention.
        ended: whether the model closed the sentence after these tokens.
        scores: for each token, its log-probability; empty if the model does not tell.
    """

    tokens: tuple[int, ...]
    starts: tuple[bool, ...]
    attention: Tensor
    ended: bool
    scores: tuple[float, ...] = ()


@dataclass(frozen=True)
class Progress:
    """How far the source has come when a policy decides.

    Attributes:
        source_ms: source audio heard since the sentence's (or the stream's) start.
        source_words: words counted in it, by the detector that the policy asks for; 0 if it asks for none.
        written_words: target words written since the same start.
        finished: whether the source has ended.
        last_frame: the frame, counted like attention's columns, that the last written token attends to; -1 if it is none of them.
    """

    source_ms: float
    source_words: int
    written_words: int
    finished: bool
    last_frame: int = -1


class Policy(ABC):
    """One way of deciding. Policies keep nothing between decisions but ``history`` earlier hypotheses, which the caller keeps for them.

    After a policy has answered, the caller applies the rules that all share: nothing that is not a whole word is written before the
    source has ended, nor the end of the sentence or the word before it, and at the source's end all is written.

    Concrete policies are frozen dataclasses: their fields are their options.
    """

    name: ClassVar[str]  #: as on the command line
    needs_attention: ClassVar[bool] = False
    detector: str | None = None  #: what counts the source's words for it: "ctc", "fixed" or "speech"; None if it needs no count
    unit_ms: float = 320.0  #: of the detectors "fixed" and "speech": what counts as a word
    history: int = 0  #: hypotheses of earlier decisions that it compares with
    keeps: History | None = None  #: what of text and audio a long stream remembers, unless the caller knows better

    @abstractmethod
    def writable(self, hypothesis: Hypothesis, earlier: list[tuple[int, ...]], progress: Progress) -> int:
        """How many leading tokens of ``hypothesis`` may be written now.

        ``earlier`` holds up to ``history`` continuations of earlier decisions, newest last, each already shortened by what has been
        written since, so that index 0 of all of them is the same place in the text.
        """

    def asks(self, progress: Progress) -> bool:
        """Whether the model is worth asking: False where nothing could be written whatever the hypothesis."""
        return True

    def shown(self, tokens: int) -> int:
        """How many of the ``tokens`` of a hypothesis, written ones apart, are shown as text that may change."""
        return tokens


def words_to_tokens(starts: Sequence[bool], words: int) -> int:
    """Leading tokens that make up ``words`` whole words; tokens before the first word's beginning belong to what is written."""
    begun = 0
    for i, start in enumerate(starts):
        begun += start
        if begun > words:
            return i
    return len(starts)


def check_whole(owner: str, name: str, value: object, low: int, high: float = math.inf) -> None:
    """Check an option that counts something.

    Raises:
        PolicyError: not a whole number from ``low`` to ``high``.
    """
    limits = f"at least {low}" if high == math.inf else f"from {low} to {high:g}"
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise PolicyError(f"{owner}: {name} is {value!r}: give a whole number, {limits}")


def check_duration(owner: str, name: str, value: object) -> None:
    """Check an option that is a duration in milliseconds.

    Raises:
        PolicyError: not a number of at least 20 ms.
    """
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 20 <= value < math.inf:
        raise PolicyError(f"{owner}: {name} is {value!r}: give milliseconds, at least 20")
