"""The command of a collection of sentence pairs, spoken: ``python -m riverrun.recipes.corpora.multi30k`` and ``…tatoeba``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from .command import show_progress
from .driver import Summary
from .errors import CorpusError
from .pair_source import Pair, PairSource
from .pair_text import held_out, split_pairs
from .pairs import about, add_options, extra
from .synthetic.options import add_voice_options, cast_of
from .synthetic.script import Line
from .synthetic.speak import speak


def parser(collection: type[PairSource]) -> argparse.ArgumentParser:
    """The command line of a collection."""
    result = argparse.ArgumentParser(
        prog=f"python -m riverrun.recipes.corpora.{collection.name}",
        description=f"Speak the English side of {collection.title} ({collection.licence}) into a packed corpus whose rows hold the "
        "translations. Splits that measure are spoken by voices that never speak training data. A run that broke off is taken up again.",
    )
    add_options(result, collection)
    splits = collection.splits
    result.add_argument("--split", choices=splits, default=splits[0], help=f"{', '.join(splits)} (default: {splits[0]})", metavar="SPLIT")
    add_voice_options(result)
    return result


def main(collection: type[PairSource], arguments: Sequence[str] | None = None) -> int:
    """Run the command of a collection; the exit status is 2 for what the user can put right."""
    options = parser(collection).parse_args(arguments)
    try:
        summary = pack(collection(options.source, options.target, options), options)
    except CorpusError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nstopped; the same command goes on with {options.out}", file=sys.stderr)
        return 130
    print(f"{summary}, see {options.out / 'skipped.jsonl'}")
    return 0


def pack(collection: PairSource, options: argparse.Namespace) -> Summary:
    """Speak one split.

    Raises:
        CorpusError: what is given cannot be used.
    """
    cast = cast_of(options, held_out=options.split != "train")
    results = list(split_pairs(collection, options.split, held_out(collection, options.exclude), tuple(options.words)))
    lines = [Line(result.source, extra(collection, result)) for result in results if isinstance(result, Pair)]
    if not lines:
        raise CorpusError(f"{options.source}: no pair of the split {options.split} is left")
    skipped = [{"id": one.place, "sentence": one.source, "reason": one.reason} for one in results if not isinstance(one, Pair)]
    return speak(
        lines,
        cast,
        options.root,
        options.out,
        jobs=options.jobs,
        repeat=options.repeat,
        about={**about(collection), "split": options.split},
        skipped=skipped,
        progress=show_progress(),
    )
