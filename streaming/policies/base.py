"""What a simultaneous translation policy is: given a hypothesis and how far the source has come, how much of it to write.

A policy decides once for each chunk of source, at places that depend on the audio alone, never on how the audio was cut
into pieces: that is how the law holds for it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor


@dataclass(frozen=True)
class Hypothesis:
    """How the model would go on from what is written, if the source ended here.

    Attributes:
        tokens: the continuation, without the end-of-sentence token and without what is already written.
        starts: for each token, whether it begins a word.
        attention: (tokens, frames) float32: row i is the attention of the query that predicts token i over the source
            frames held, oldest first; the policies drop the sink frame themselves.
        ended: whether the model closed the sentence after these tokens.
    """

    tokens: tuple[int, ...]
    starts: tuple[bool, ...]
    attention: Tensor
    ended: bool


@dataclass(frozen=True)
class Progress:
    """How far the source has come when a policy decides.

    Attributes:
        source_ms: source audio heard since the sentence's (or the stream's) start.
        source_words: words counted in it, by the detector that the policy asks for; 0 if it asks for none.
        written_words: target words written since the same start.
        finished: whether the source has ended.
    """

    source_ms: float
    source_words: int
    written_words: int
    finished: bool


class Policy(ABC):
    """One way of deciding. Policies keep nothing between decisions but ``history`` earlier hypotheses, which the caller keeps for them.

    After a policy has answered, the caller applies the rules that all share: nothing that is not a whole word is written before the
    source has ended, the end of the sentence is never written before the source has ended, and at its end all is written.
    """

    name: ClassVar[str]  #: as on the command line
    needs_attention: ClassVar[bool] = False
    history: int = 0  #: hypotheses of earlier decisions that it compares with

    @abstractmethod
    def writable(self, hypothesis: Hypothesis, earlier: list[tuple[int, ...]], progress: Progress) -> int:
        """How many leading tokens of ``hypothesis`` may be written now.

        ``earlier`` holds up to ``history`` continuations of earlier decisions, newest last, each already shortened by what has been
        written since, so that index 0 of all of them is the same place in the text.
        """
