"""What simultaneous translation asks of a model: an encoder that hears slots, and a decoder that tells where it looked.

`riverrun.streaming.translator.Translator` makes a `riverrun.streaming.Recognizer` of a model and a policy, so that whatever runs
recognition (streams, the scheduler, the server, snapshots) runs translation too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from .policies import Hypothesis
from .state import State


class AttentionModel(Protocol):
    """An attention encoder-decoder (or a decoder-only speech model), for any number of streams.

    Attributes:
        sample_rate: of the audio that it hears, in Hz.
        chunk: samples that the encoder takes in together; decisions fall on whole multiples of it.
        delay: further samples that it must have heard before a chunk is complete.
        frame_ms: source time that one column of attention stands for.
        most_frames: source frames that a stream holds at most; the caller forgets older ones in time.
        languages: target languages, the default first; empty for a model with a single, unnamed one.

    A model without cross-attention says ``attends = False`` (see `attends`) and gives hypotheses with attention of no columns. A model
    whose new frames depend on what was heard before the frames held may have ``restart(source, which)``: streams marked in ``which``
    (S,) bool, which have come to a pause, hear what follows as a recording of its own.
    """

    sample_rate: int
    chunk: int
    delay: int
    frame_ms: float
    most_frames: int
    languages: tuple[str, ...]

    def init_source(self, slots: int) -> State:
        """Sources of ``slots`` streams that have heard nothing. Bounded: at most ``most_frames`` frames each."""

    def hear(self, audio: Tensor, lengths: Tensor, source: Any) -> Any:
        """Audio (S, C) float32 in [-1, 1], samples (S,), sources -> sources that hold the new frames.

        After each call a slot has heard ``chunk`` · n + ``delay`` samples, save at the end of its stream. A slot of length 0 keeps its
        source bit for bit.
        """

    def finish(self, source: Any) -> Any:
        """Sources with what waited for lookahead, for streams that have ended."""

    def frames(self, source: Any) -> Tensor:
        """Source frames held by each stream (S,), all of which attention runs over."""

    def forget(self, source: Any, frames: Tensor) -> Any:
        """Drop each stream's oldest ``frames`` (S,) source frames; 0 drops none, and keeps the source bit for bit."""

    def source_words(self, source: Any) -> Tensor | None:
        """Words that a CTC head hears greedily in each stream's held frames (S,); None for a model without one."""

    def generate(self, source: Any, slots: Sequence[int], prefixes: Sequence[Sequence[int]], language: str | None) -> list[Hypothesis]:
        """For each of ``slots``, the likeliest continuation of what is written there.

        The attention of the chosen continuation comes from one teacher-forced pass over it, not from the search.
        ``prefixes`` hold target tokens without the language tag and without begin- and end-of-sentence tokens, which are the model's.
        What is written stays: a continuation should begin a word or be punctuation, not letters that lengthen the last word written.
        """

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens."""

    def starts_word(self, token: int) -> bool:
        """Whether a token begins a word (for languages written without spaces: always)."""


def attends(model: AttentionModel) -> bool:
    """Whether a model has cross-attention (or self-attention over audio) to go by: its attribute ``attends``, True if it has none."""
    return bool(getattr(model, "attends", True))


def continuation_rows(attention: Tensor, before: int, new: int) -> Tensor:
    """Of a teacher-forced pass, the rows of the queries that predict a continuation.

    Args:
        attention: (positions, frames), a row for each decoder input.
        before: decoder inputs that came before the continuation: begin-of-sentence, language tag, forced prefix and written tokens,
            all of them. The query at the last of these predicts the continuation's first token.
        new: the continuation's tokens.

    Returns:
        (new, frames).

    Raises:
        ValueError: there are not so many rows, or nothing stands before the continuation.
    """
    if before < 1 or before - 1 + new > len(attention):
        raise ValueError(f"no rows for {new} tokens behind {before} in attention of {len(attention)} positions")
    return attention[before - 1 : before - 1 + new]
