"""Where a stream is cut into segments.

Rules are data, and the decision is a pure function of one frame and a few integers, so that endpoints fall on the same
frames however the audio was chunked. Cutting is segmentation only: nothing here touches the decoder. An endpoint at
frame f puts the labels of frames before f into the ended segment and those from f on into the next, each into one.

The rules are those of Kaldi's online decoder (and of sherpa-onnx), save that a long utterance is cut between words.
With voice activity detection, silence lasts since the last speech and not since the last label, but no endpoint falls within
``EndpointConfig.pause_s`` of a label: a model says its words somewhat late, and their last labels belong to the same segment.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class EndpointRule:
    """An endpoint falls where all conditions hold.

    Attributes:
        name: what the endpoint's event is labelled with.
        min_silence_s: seconds since the last label, or since the segment's start if it has none. 0 makes a length
            rule: it waits for the next gap between words, that is for a label that begins a word, or for a short
            pause (``EndpointConfig.pause_s``).
        min_utterance_s: seconds since the segment's start.
        needs_words: whether the segment must hold a label.

    Raises:
        ValueError: a negative duration, or a rule that always holds.
    """

    name: str
    min_silence_s: float = 0.0
    min_utterance_s: float = 0.0
    needs_words: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.min_silence_s < math.inf and 0 <= self.min_utterance_s < math.inf):
            raise ValueError(f"endpoint rule {self.name!r}: durations must be finite and not negative")
        if self.min_silence_s == self.min_utterance_s == 0:
            raise ValueError(f"endpoint rule {self.name!r}: give it a minimal silence or a minimal utterance, else it always holds")


def standard_rules(silence_s: float = 2.4, silence_after_words_s: float = 1.2, utterance_s: float = 20.0) -> tuple[EndpointRule, ...]:
    """The usual three rules: long silence, shorter silence after words (0.8 to 1.2 s suits most uses), a long utterance."""
    return (
        EndpointRule("silence", min_silence_s=silence_s),
        EndpointRule("silence-after-words", min_silence_s=silence_after_words_s, needs_words=True),
        EndpointRule("utterance", min_utterance_s=utterance_s),
    )


@dataclass(frozen=True)
class EndpointConfig:
    """The rules of a stream; the first one that holds gives the endpoint its name.

    Attributes:
        rules: none for a stream that is cut by ``longest_s`` alone.
        pause_s: silence that a length rule takes for a gap between words. No shorter than the silence after which the
            search makes its labels final (``settle`` frames), lest the endpoint wait for the next silence.
        longest_s: a segment that finds no gap for so long is cut where it stands, as rule "longest": what a stream
            remembers of its segment is bounded whatever it hears.
    """

    rules: tuple[EndpointRule, ...] = standard_rules()
    pause_s: float = 0.4
    longest_s: float = 60.0

    def __post_init__(self) -> None:
        for name in ("pause_s", "longest_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be longer than 0 s")


class Emission(NamedTuple):
    """A final label, as endpointing sees it."""

    frame: int  # since the stream's start
    starts_word: bool


class Cut(NamedTuple):
    """An endpoint: segment ``segment`` ends before frame ``frame``."""

    segment: int
    frame: int
    rule: str


class EndpointState(NamedTuple):
    """All that endpointing remembers of a stream; ``tuple`` and ``EndpointState(*…)`` save and restore it."""

    segment: int = 0  #: number of the running segment
    start: int = 0  #: its first frame
    last: int = -1  #: frame of its last label; ``start - 1`` if it has none
    frame: int = 0  #: the next frame to come
    voice: int = -1  #: frame of its last speech, with voice activity detection; no less than ``start - 1``


class EndpointDetector:
    """Finds the endpoints of streams.

    Args:
        config: the rules.
        frame_s: seconds per encoder frame.
    """

    def __init__(self, config: EndpointConfig, frame_s: float):
        if not 0 < frame_s < math.inf:
            raise ValueError(f"frame_s is {frame_s}: a frame must last longer than 0 s")
        self.frame_s = frame_s
        self._pause, self._longest = self._frames(config.pause_s), self._frames(config.longest_s)
        self._rules = [(rule, self._frames(rule.min_silence_s), self._frames(rule.min_utterance_s)) for rule in config.rules]
        self._least = min((silence or self._pause for _, silence, _ in self._rules), default=1 << 60)

    def advance(
        self, state: EndpointState, until: int, emissions: Iterable[Emission], voiced: Collection[int] | None = None
    ) -> tuple[EndpointState, list[Cut]]:
        """Take in the frames before ``until`` that are still to come.

        Args:
            state: of the stream so far.
            until: frames whose labels are final, counted from the stream's start.
            emissions: the final labels in order; those outside ``[state.frame, until)`` are not looked at, so the
                labels of the running segment may be given again each time.
            voiced: frames with speech in them, as voice activity detection has it; None: silence is the absence of labels.
        """
        here: dict[int, bool] = {}
        for emission in emissions:
            here.setdefault(emission.frame, emission.starts_word)  # a gap before the frame is one before its first label
        segment, start, last, _, voice = state
        cuts = []
        for frame in range(state.frame, until):
            starts_word = here.get(frame)  # None where no label is
            words, length = last >= start, frame - start
            cut: str | None = None
            if voiced is not None and frame in voiced:
                voice = frame
            if length >= self._longest:  # before this frame
                cut, at = "longest", frame
            elif starts_word is not None:
                if starts_word and words:
                    cut, at = next((rule.name for rule, silence, least in self._rules if not silence and length >= least), None), frame
            else:
                silent = frame - last
                if voiced is not None and silent >= self._pause:
                    silent = frame - voice
                elif voiced is not None:
                    silent = 0
                if silent >= self._least:
                    cut, at = self._silence(silent, length + 1, words), frame + 1
            if cut:
                cuts.append(Cut(segment, at, cut))
                segment, start, last, voice = segment + 1, at, at - 1, max(voice, at - 1)
            if starts_word is not None:
                last = frame
        return EndpointState(segment, start, last, max(until, state.frame), voice), cuts

    def _silence(self, silent: int, length: int, words: bool) -> str | None:
        """The first rule that holds after so many frames of silence in a segment of so many."""
        for rule, min_silence, min_length in self._rules:
            if silent >= (min_silence or self._pause) and length >= min_length and (words or not rule.needs_words):
                return rule.name
        return None

    def _frames(self, seconds: float) -> int:
        """Whole frames that last at least ``seconds``; rounding errors of the division do not count."""
        return math.ceil(seconds / self.frame_s - 1e-6)
