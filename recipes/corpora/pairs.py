"""Pairs of speakable English and clean translations, as files.

``python -m riverrun.recipes.corpora.pairs multi30k --source DIR --target de --out PAIRS``: each split becomes ``<split>.en-de.jsonl``
with ``text``, ``translation``, ``target_lang`` and ``pair`` (the place in the collection), to be spoken by ``…corpora.synthetic --pairs``.
Nothing that is in a split for measuring, on either side, is in the one for training. Multi30k's captions are for research use only;
``pairs tatoeba`` makes a set without them.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from .errors import CorpusError
from .files import write_json, write_lines, write_rows
from .multi30k import Multi30k
from .pair_source import Pair, PairSource
from .pair_text import Dropped, held_out, split_pairs
from .tatoeba import Tatoeba

COLLECTIONS: dict[str, type[PairSource]] = {"multi30k": Multi30k, "tatoeba": Tatoeba}


def add_options(parser: argparse.ArgumentParser, collection: type[PairSource]) -> None:
    """Add what every command on a collection of pairs takes."""
    add = parser.add_argument
    add("--source", type=Path, required=True, help=f"{collection.title}'s {collection.layout}")
    add("--target", required=True, metavar="LANG", help="language of the translations, for instance de")
    add("--exclude", type=Path, nargs="*", default=[], metavar="FILE", help="files whose lines (first column) must not be trained on")
    add("--words", type=int, nargs=2, default=(1, 60), metavar=("FEWEST", "MOST"), help="words of a training sentence (default: 1 60)")
    collection.add_options(parser)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m riverrun.recipes.corpora.pairs", description="Make pairs of speakable English and clean translations."
    )
    commands = result.add_subparsers(dest="collection", required=True)
    for name, collection in COLLECTIONS.items():
        command = commands.add_parser(name, help=collection.licence)
        add_options(command, collection)
        command.add_argument("--out", type=Path, required=True, help="folder for the pairs of each split, about.json and dropped.jsonl")
        command.add_argument("--format", choices=("jsonl", "tsv"), default="jsonl", help="tsv: source TAB target alone")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 2 for what the user can put right."""
    options = parser().parse_args(arguments)
    try:
        counts, dropped = prepare(COLLECTIONS[options.collection](options.source, options.target, options), options)
    except CorpusError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(", ".join(f"{split} {count}" for split, count in counts.items()) + f" pairs; {dropped} left out, see dropped.jsonl")
    return 0


def prepare(collection: PairSource, options: argparse.Namespace) -> tuple[dict[str, int], int]:
    """Write the files of all splits; how many pairs each has, and how many were left out."""
    held, dropped, counts = held_out(collection, options.exclude), list[Dropped](), dict[str, int]()
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        for split in collection.splits:
            results = list(split_pairs(collection, split, held, tuple(options.words)))
            pairs = [result for result in results if isinstance(result, Pair)]
            dropped += [result for result in results if isinstance(result, Dropped)]
            if not pairs:
                if split == "train":
                    raise CorpusError(f"{options.source}: no pair to train on is left")
                continue
            counts[split] = len(pairs)
            path = options.out / f"{split}.en-{options.target}.{options.format}"
            if options.format == "tsv":
                write_lines(path, (f"{pair.source}\t{pair.target}" for pair in pairs))
            else:
                write_rows(path, ({"text": pair.source, **extra(collection, pair)} for pair in pairs))
        write_rows(options.out / "dropped.jsonl", map(vars, dropped))
        reasons = dict(Counter(one.reason for one in dropped))
        write_json(options.out / "about.json", {**about(collection), "pairs": counts, "dropped": reasons})
    except OSError as error:
        raise CorpusError(f"{options.out}: {(error.strerror or str(error)).lower()}") from None
    return counts, len(dropped)


def extra(collection: PairSource, pair: Pair) -> dict[str, str]:
    """What the manifest row of a spoken pair holds of it beside the text."""
    return {"translation": pair.target, "target_lang": collection.target, "pair": f"{collection.name}/{pair.place}"}


def about(collection: PairSource) -> dict[str, str]:
    """What ``about.json`` says of a collection."""
    said = {"name": collection.name, "title": collection.title, "licence": collection.licence, "url": collection.url}
    return {**said, "source_lang": "en", "target_lang": collection.target}


if __name__ == "__main__":
    sys.exit(main())
