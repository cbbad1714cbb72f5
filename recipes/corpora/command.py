"""The command of a public corpus: ``python -m riverrun.recipes.corpora.<name> --source DIR --out DIR``."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from .archive import discard, is_archive, unpack
from .decoder import Decoder
from .driver import Driver, Summary
from .errors import CorpusError
from .reader import Limits, Reader, collect

_UNPACKED = "unpacked"
# Options that make no other corpus, and those that `Limits` holds.
_NO_SETTINGS = {"source", "out", "checksum", "jobs", "licence", "url", "longest", "unlabelled"}


def parser(corpus: type[Reader]) -> argparse.ArgumentParser:
    """The command line of a corpus."""
    result = argparse.ArgumentParser(
        prog=f"python -m riverrun.recipes.corpora.{corpus.name}",
        description=f"Check {corpus.title} and pack it: manifest.jsonl, raw audio at 16 kHz, about.json with licence and source, "
        "skipped.jsonl with what was left out and why. A run that broke off is taken up again by the same command.",
    )
    add = result.add_argument
    add("--source", type=Path, nargs="+", required=True, help=f"the corpus's folder, or its archives, from {corpus.url}")
    add("--out", type=Path, required=True, help="folder of the packed corpus")
    add("--split", nargs="+", choices=corpus.splits, default=[corpus.splits[0]], metavar="SPLIT", help=_either(corpus.splits))
    add("--checksum", action="append", default=[], metavar="FILE=KIND:HEX", help="digest of an archive, such as a.tar.gz=sha256:0f…")
    limits = Limits()
    add("--longest", type=float, default=limits.longest_s, metavar="S", help="longer utterances are left out (default: %(default)g s)")
    add("--unlabelled", action="store_true", help="take utterances without text, too")
    add("--licence", default=corpus.licence, help="to be noted in the corpus (default: %(default)s)")
    add("--url", default=corpus.url, help="where it comes from, to be noted in the corpus (default: %(default)s)")
    add("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="worker processes (default: %(default)s)")
    corpus.add_options(result)
    return result


def _either(splits: Sequence[str]) -> str:
    return f"{', '.join(splits)}; several make one corpus (default: {splits[0]})"


def main(corpus: type[Reader], arguments: Sequence[str] | None = None) -> int:
    """Run the command of a corpus; the exit status is 2 for what the user can put right."""
    options = parser(corpus).parse_args(arguments)
    try:
        summary = pack(corpus, options)
    except CorpusError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nstopped; the same command goes on with {options.out}", file=sys.stderr)
        return 130
    print(f"{summary}, see {options.out / 'skipped.jsonl'}")
    return 0


def pack(corpus: type[Reader], options: argparse.Namespace) -> Summary:
    """Check and pack one corpus.

    Raises:
        CorpusError: what is given cannot be used.
    """
    archives = [source for source in options.source if is_archive(source)]
    if len(options.source) > max(1, len(archives)):
        raise CorpusError("give one folder, or archives")
    limits = Limits(longest_s=options.longest, unlabelled=options.unlabelled)
    own = {key: str(value) for key, value in vars(options).items() if key not in _NO_SETTINGS}
    settings = {"corpus": corpus.name, **own, "limits": dataclasses.asdict(limits)}
    driver = Driver(options.out, settings | {"archives": [archive.name for archive in archives]}, jobs=options.jobs)
    unpacked = options.out / _UNPACKED
    if driver.finished and archives:
        return driver.summary()
    records = unpack(archives, unpacked, {**corpus.digests, **_digests(options.checksum)})
    folder = unpacked if archives else options.source[0]
    if not folder.exists():
        raise CorpusError(f"{folder}: no such folder or archive")
    reader = corpus(folder, options)
    tasks, skipped = collect(reader, options.split, limits)
    summary = driver.run(
        tasks,
        partial(Decoder, reader.folder, reader.sample_rate, limits),
        about=_about(corpus, options) | {"archives": records},
        skipped=[dataclasses.asdict(one) for one in skipped],
        progress=show_progress(),
    )
    if archives:
        discard(unpacked)
    return summary


def _about(corpus: type[Reader], options: argparse.Namespace) -> dict[str, Any]:
    origin = {"name": corpus.name, "title": corpus.title, "licence": options.licence, "url": options.url}
    return {**origin, "splits": options.split}


def _digests(given: Sequence[str]) -> dict[str, str]:
    pairs = [one.partition("=") for one in given]
    if wrong := [one for one, (name, equals, digest) in zip(given, pairs, strict=True) if not (name and equals and digest)]:
        raise CorpusError(f'--checksum is to read FILE=KIND:HEX, such as a.tar.gz=sha256:0f…, not "{wrong[0]}"')
    return {name: digest for name, _, digest in pairs}


def show_progress() -> Callable[[int, int], None] | None:
    """A line that counts on a terminal; None in a pipe."""
    return _show if sys.stderr.isatty() else None


def _show(done: int, of: int) -> None:
    print(f"\r{done} of {of}", end="\n" if done == of else "", file=sys.stderr, flush=True)
