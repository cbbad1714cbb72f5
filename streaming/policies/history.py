"""What of text and audio a long stream remembers.

StreamAtt (Papi et al. 2024, "StreamAtt: Direct Streaming Speech-to-Text Translation with Attention-based Audio History Selection"):
first the text to keep is chosen, then the audio before the earliest frame that the kept text attends to is forgotten.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from .base import PolicyError, check_whole

#: Languages written without spaces, whose text is counted in characters.
UNSPACED = frozenset({"zh", "ja", "yue", "th", "lo", "km", "my"})

_STOPS = ".!?…。！？"
_OPENING = "\"'“„‘«([「『（［"
_CLOSING = "\"'”’»)]」』）］"
_TITLES = frozenset({"mr", "mrs", "ms", "dr", "prof", "st", "mme", "mlle", "hr", "fr", "nr", "bzw", "ca", "vgl", "vs"})


class Piece(NamedTuple):
    """A written token, as a history sees it."""

    text: str
    starts: bool  # whether it begins a word
    closes: bool  # whether a sentence ends with it


class History(ABC):
    """A rule of what is remembered. Rules are pure: they look at the written tokens that are still remembered."""

    name: ClassVar[str]

    @abstractmethod
    def forgotten(self, written: Sequence[Piece], unspaced: bool) -> int:
        """How many of the oldest tokens to forget; ``unspaced`` is True for a language written without spaces."""


@dataclass(frozen=True)
class FixedWords(History):
    """The last ``words`` words; characters, of a language written without spaces."""

    words: int = 20
    name: ClassVar[str] = "words"

    def __post_init__(self) -> None:
        check_whole("history words", "words", self.words, 1)

    def forgotten(self, written: Sequence[Piece], unspaced: bool) -> int:
        left = self.words
        first = len(written)
        for i in range(len(written) - 1, -1, -1):
            if unspaced:
                left -= len(written[i].text.strip())
                if left < 0:
                    break
                first = i
            elif written[i].starts:
                first, left = i, left - 1
                if not left:
                    break
        else:
            return 0
        return first


@dataclass(frozen=True)
class Textual(History):
    """The text after the last sentence end, and of it ``most`` tokens at most."""

    most: int = 100
    name: ClassVar[str] = "sentence"

    def __post_init__(self) -> None:
        check_whole("history sentence", "most", self.most, 1)

    def forgotten(self, written: Sequence[Piece], unspaced: bool) -> int:
        first = max((i + 1 for i, piece in enumerate(written) if piece.closes), default=0)
        if len(written) - first > self.most:
            first = next((i for i in range(len(written) - self.most, len(written)) if written[i].starts), len(written) - self.most)
        return first


HISTORIES: dict[str, type[FixedWords] | type[Textual]] = {cls.name: cls for cls in (FixedWords, Textual)}


def make_history(name: str, size: int | None = None) -> History:
    """A history rule by name: "words" (``size`` words, 20 by default) or "sentence" (``size`` tokens at most, 100 by default).

    Raises:
        PolicyError: unknown name, or a size out of range.
    """
    if name not in HISTORIES:
        raise PolicyError(f"unknown history {name!r}: choose {' or '.join(HISTORIES)}")
    return HISTORIES[name]() if size is None else HISTORIES[name](size)


def ends_sentence(word: str) -> bool:
    """Whether a word ends a sentence: by its last mark, unless that is of an ordinal, an initial or a short form ("3.", "J.", "Dr.")."""
    core = word.strip().rstrip(_CLOSING)
    if not core or core[-1] not in _STOPS:
        return False
    if core[-1] != ".":
        return True
    body = core.rstrip(".").lstrip(_OPENING)
    if core.endswith("..") or not body:
        return True
    return not (body.isdigit() or (len(body) == 1 and body.isalpha()) or "." in body or body.lower() in _TITLES)
