"""Pairs to train and measure speech translation with: English that can be spoken, and its translation as it should be written.

``python -m riverrun.recipes.corpora.pairs multi30k --source DIR --target de --out PAIRS`` writes a file for each split: ``text``,
``translation``, ``target_lang``, ``pair`` (the place in the collection), to be spoken by ``…corpora.synthetic --pairs``.
Multi30k's captions are for research use; ``pairs tatoeba`` makes a set without them.
"""

from __future__ import annotations

import argparse
import html
import json
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .files import write_json, write_lines
from .pair_sources import Multi30k, Pair, PairError, PairSource, Tatoeba, read_lines
from .text import speakable, spoken_number, transcript

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
    text = _SPLIT_CONTRACTION.sub("'", html.unescape(sentence)).replace(" & ", " and ")
    text = _NUMBER.sub(lambda match: spoken_number(int(match[0])), _NUMBER_SIGN.sub("number ", text)).strip()
    return speakable(text[:1].upper() + text[1:])


def target_text(sentence: str) -> str | None:
    """A translation as it should be written, or None where it is no clean sentence.

    Case and punctuation stay; Unicode is composed (NFC), white space and the forms of quotation marks are made one.
    """
    text = unicodedata.normalize("NFC", html.unescape(sentence)).translate(_QUOTES)
    text = " ".join("".join(c for c in text if unicodedata.category(c) not in ("Cf", "Cc") or c.isspace()).split())
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
    return measured(collection.pairs(split), every=not isinstance(collection, Tatoeba))


def row(collection: str, pair: Pair, target_lang: str) -> dict[str, str]:
    """What ``…corpora.synthetic --pairs`` reads."""
    return {"pair": f"{collection}/{pair.place}", "text": pair.source, "translation": pair.target, "target_lang": target_lang}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m riverrun.recipes.corpora.pairs", description="Make pairs of speakable English and clean translations."
    )
    add = result.add_argument
    add("collection", choices=("multi30k", "tatoeba"))
    add("--source", type=Path, required=True, help="Multi30k's folder, or Tatoeba's table of tab-separated columns")
    add("--target", required=True, metavar="LANG", help="language of the translations, for instance de")
    add("--out", type=Path, required=True, help="folder for the pairs of each split, about.json and dropped.jsonl")
    add("--exclude", type=Path, nargs="*", default=[], metavar="FILE", help="files whose lines (first column) must not be trained on")
    add("--words", type=int, nargs=2, default=(1, 60), metavar=("FEWEST", "MOST"), help="words of a training sentence (default: 1 60)")
    add("--format", choices=("jsonl", "tsv"), default="jsonl", help="tsv: source TAB target alone (default: %(default)s)")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 2 for what the user can put right."""
    options = parser().parse_args(arguments)
    collection: PairSource = (Multi30k if options.collection == "multi30k" else Tatoeba)(options.source, options.target)
    dropped: list[Dropped] = []
    kept: dict[str, int] = {}
    try:
        held = held_out(collection, options.exclude)
        options.out.mkdir(parents=True, exist_ok=True)
        for split in collection.splits:
            results = list(split_pairs(collection, split, held, tuple(options.words)))
            pairs = [result for result in results if isinstance(result, Pair)]
            dropped += [result for result in results if isinstance(result, Dropped)]
            if not pairs:
                raise PairError(f"{options.source}: no pair of the split {split} is left")
            kept[split] = len(pairs)
            lines = (
                f"{pair.source}\t{pair.target}"
                if options.format == "tsv"
                else json.dumps(row(collection.name, pair, options.target), ensure_ascii=False)
                for pair in pairs
            )
            write_lines(options.out / f"{split}.en-{options.target}.{options.format}", lines)
    except PairError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    write_lines(options.out / "dropped.jsonl", (json.dumps(vars(one), ensure_ascii=False) for one in dropped))
    about = {"name": collection.name, "licence": collection.licence, "url": collection.url, "languages": ["en", options.target]}
    write_json(options.out / "about.json", about | {"pairs": kept, "dropped": Counter(one.reason for one in dropped)})
    print(", ".join(f"{split} {count}" for split, count in kept.items()) + f" pairs; {len(dropped)} left out, see dropped.jsonl")
    return 0


if __name__ == "__main__":
    sys.exit(main())
