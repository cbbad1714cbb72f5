"""The text of a synthetic corpus: sentences of several sources, without those of any development set, and new ones made from them.

``python -m riverrun.recipes.corpora.sentences --text books.txt captions.txt --exclude dev/*.jsonl --sampled 50000 --out sentences.txt``
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from .glosses import glosses
from .prompts import prompts
from .sampled import NgramSampler, dictionary_words, word_strings
from .text import select, transcript


def excluded(paths: Sequence[Path]) -> set[str]:
    """Transcripts that must not be spoken: of JSON Lines manifests (``text``), or of plain text, one sentence a line.

    Raises:
        ValueError: a manifest's line is no JSON object with a text.
    """
    found = set()
    for path in paths:
        for number, line in enumerate(_lines(path), 1):
            if path.suffix == ".jsonl":
                try:
                    line = json.loads(line)["text"]
                except (json.JSONDecodeError, KeyError, TypeError):
                    raise ValueError(f"{path}, line {number}: no JSON object with a text") from None
            found.add(transcript(line))
    return found


def compose(
    sources: Iterable[Iterable[str]], exclude: set[str], *, sampled: int, made: Iterable[tuple[Iterator[str], int]], words: tuple[int, int]
) -> list[str]:
    """Speakable sentences of all sources, ``sampled`` new ones like them, and so many of each endless source in ``made``; each once."""
    known = set(exclude)
    real = [sentence for source in sources for sentence in select(source, words=words, exclude=known)]
    result = list(real)
    if sampled and real:
        sampler, rng = NgramSampler(real), random.Random(len(real))  # noqa: S311
        result += islice(select((sampler.sample(rng) for _ in range(20 * sampled)), words=words, exclude=known), sampled)
    for endless, count in made:
        result += islice(select(islice(endless, 20 * count), words=(1, words[1]), exclude=known), count)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 2 for what the user can put right."""
    parser = argparse.ArgumentParser(prog="python -m riverrun.recipes.corpora.sentences", description=__doc__)
    add = parser.add_argument
    add("--text", nargs="+", type=Path, required=True, help="files with one sentence a line; of lines with tabs, the first column")
    add("--exclude", nargs="*", type=Path, default=[], help="manifests (.jsonl) or texts whose sentences are left out")
    add("--words", nargs=2, type=int, default=(2, 32), metavar=("FEWEST", "MOST"), help="words of a sentence (default: 2 32)")
    add("--wordnet", type=Path, help="folder of WordNet's database, whose definitions and examples are spoken too")
    add("--sampled", type=int, default=0, metavar="N", help="new sentences drawn from a trigram model of the others")
    add("--prompts", type=int, default=0, metavar="N", help="digits, numbers, dates and commands from templates")
    add("--dictionary", type=Path, help="pronouncing dictionary in festival's format, for --word-strings")
    add("--word-strings", type=int, default=0, metavar="N", help="strings of dictionary words")
    add("--seed", type=int, default=1, help="order and chance (default: 1)")
    add("--out", type=Path, required=True, help="the text, one sentence a line, in random order")
    given = parser.parse_args(arguments)
    try:
        if given.word_strings and given.dictionary is None:
            raise ValueError("--word-strings needs a --dictionary")
        made = [(prompts(given.seed), given.prompts)]
        if given.dictionary is not None:
            rng = random.Random(given.seed)  # noqa: S311
            made.append((word_strings(dictionary_words(given.dictionary), rng), given.word_strings))
        sources: list[Iterable[str]] = [(line.split("\t")[0] for line in _lines(path)) for path in given.text]
        if given.wordnet is not None:
            sources.append(glosses(given.wordnet))
        result = compose(sources, excluded(given.exclude), sampled=given.sampled, made=made, words=tuple(given.words))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    random.Random(given.seed).shuffle(result)  # noqa: S311
    temporary = given.out.with_name(given.out.name + ".part")
    temporary.write_text("".join(f"{sentence}\n" for sentence in result), encoding="utf-8")
    temporary.replace(given.out)
    print(f"{len(result)} sentences, {sum(len(s.split()) for s in result)} words in {given.out}")
    return 0


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else "is no UTF-8 text"
        raise ValueError(f"{path}: {reason}") from None


if __name__ == "__main__":
    sys.exit(main())
