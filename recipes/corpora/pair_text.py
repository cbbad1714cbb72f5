"""Pairs to train and measure speech translation with: English that can be spoken, and its translation as it should be written."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .files import read_lines
from .pair_source import Pair, PairSource
from .text import plain, speakable, spoken_number, transcript

_SPLIT_CONTRACTION = re.compile(r" '(?=(?:s|re|ve|ll|d|m)\b)")
_NUMBER_SIGN = re.compile(r"(?:\bnumber )?# ?(?=\d)", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.,:/%$'-])(?:\d{1,6})(?![\w:/%$'-]|[.,]\d)")
_QUOTES = str.maketrans({"„": '"', "“": '"', "”": '"', "«": '"', "»": '"', "‚": "'", "‘": "'", "’": "'"})
_MARKS = set(" .,;:!?'\"()-–—…%&/°€$")
_UNSPEAKABLE = "the English cannot be spoken with certainty"
_UNLIKE_RATIO, _UNLIKE_CHARACTERS = 3, 25


def source_text(sentence: str) -> str | None:
    """An English sentence as a synthesiser should read it, or None where that is uncertain.

    More than `text.speakable`: markup is undone, "&" and whole numbers of up to six digits are written out (7 is "seven", #7
    "number seven", 2007 "two thousand seven").
    """
    text = _SPLIT_CONTRACTION.sub("'", plain(html.unescape(sentence))).replace(" & ", " and ")
    said = speakable(_NUMBER.sub(lambda match: spoken_number(int(match[0])), _NUMBER_SIGN.sub("number ", text)))
    return said and said[:1].upper() + said[1:]


def target_text(sentence: str) -> str | None:
    """A translation as it should be written, or None where it is no clean sentence.

    Case and punctuation stay; Unicode is composed (NFC), white space and the forms of quotation marks are made one.
    """
    text = html.unescape(sentence).translate(_QUOTES)
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Cc") or c.isspace())
    text = " ".join(unicodedata.normalize("NFC", text).split())
    text = text.replace(" ,", ",").replace(" .", ".")
    if not any(map(str.isalpha, text)) or not all(c in _MARKS or unicodedata.category(c)[0] in "LM" or c.isdecimal() for c in text):
        return None
    return text


def reference_text(sentence: str) -> str | None:
    """A translation to measure against: as published, white space folded; None where there is none."""
    return " ".join(unicodedata.normalize("NFC", sentence).split()) or None


@dataclass
class Held:
    """Sentences that must not be trained on, English and translated, as they compare."""

    sources: set[str] = field(default_factory=set)
    targets: set[str] = field(default_factory=set)

    def add(self, source: str, target: str = "") -> None:
        """Hold out a sentence and its translation."""
        self.sources.add(transcript(source_text(source) or source))
        if key := _letters(target):
            self.targets.add(key)

    def holds(self, source: str, target: str) -> bool:
        """Whether either side is held out."""
        return transcript(source) in self.sources or _letters(target) in self.targets


def _letters(text: str) -> str:
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFC", text).casefold()))


@dataclass(frozen=True)
class Dropped:
    """A pair that was left out."""

    place: str
    reason: str
    source: str
    target: str


def clean(pairs: Iterable[Pair], held: Held, words: tuple[int, int] = (1, 60)) -> Iterator[Pair | Dropped]:
    """Pairs to train on, cleaned on both sides, each once; ``words`` are the fewest and most of the source."""
    seen = set()
    for pair in pairs:
        source, target = source_text(pair.source), target_text(pair.target)
        reason = ""
        if source is None:
            reason = _UNSPEAKABLE
        elif target is None:
            reason = "the translation is no clean sentence"
        elif held.holds(source, target):
            reason = "held out"
        elif not words[0] <= len(transcript(source).split()) <= words[1]:
            reason = "too short or too long"
        elif _unlike(len(source), len(target)):
            reason = "the lengths are too unlike"
        elif (transcript(source), target) in seen:
            reason = "a repetition"
        if reason or source is None or target is None:
            yield Dropped(pair.place, reason, pair.source, pair.target)
        else:
            seen.add((transcript(source), target))
            yield Pair(pair.place, source, target)


def _unlike(source: int, target: int) -> bool:
    short, long = sorted((source, target))
    return long > _UNLIKE_RATIO * short and long - short > _UNLIKE_CHARACTERS


def measured(pairs: Iterable[Pair], *, every: bool) -> Iterator[Pair | Dropped]:
    """Pairs to measure with: the English fit to be spoken, the translation as published; if not ``every``, a sentence's first only."""
    seen = set()
    for pair in pairs:
        source, target = source_text(pair.source), reference_text(pair.target)
        if source is None or target is None:
            yield Dropped(
                pair.place, "the English cannot be spoken with certainty" if target else "no translation", pair.source, pair.target
            )
        elif not every and transcript(source) in seen:
            yield Dropped(pair.place, "another translation of a sentence", pair.source, pair.target)
        else:
            seen.add(transcript(source))
            yield Pair(pair.place, source, target)


def held_out(collection: PairSource, others: Sequence[Path]) -> Held:
    """Both sides of all splits of ``collection`` that measure, and the English lines of other files."""
    held = Held()
    for split in collection.splits:
        if split != "train":
            for pair in collection.pairs(split):
                held.add(pair.source, pair.target)
    for path in others:
        for line in read_lines(path):
            held.add(line.split("\t")[0])
    return held


def split_pairs(collection: PairSource, split: str, held: Held, words: tuple[int, int] = (1, 60)) -> Iterator[Pair | Dropped]:
    """The pairs of one split, made fit for its use."""
    if split == "train":
        return clean(collection.pairs(split), held, words)
    return measured(collection.pairs(split), every=not collection.many)
