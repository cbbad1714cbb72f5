"""Make a packed corpus of synthetic speech from a file of sentences, or of sentences with translations."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from ..command import show_progress
from ..errors import CorpusError
from .options import add_voice_options, cast_of
from .script import read_pairs, read_text
from .speak import speak


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(
        prog="python -m riverrun.recipes.corpora.synthetic",
        description="Speak sentences with espeak-ng, flite, festival, RHVoice, SVOX Pico, Kokoro and Piper into a packed corpus, with word "
        "times where the engine tells them. A run that broke off is taken up again by the same command.",
    )
    add = result.add_argument
    script = result.add_mutually_exclusive_group(required=True)
    script.add_argument("--text", type=Path, help="one sentence per line; those with digits or symbols are left out")
    script.add_argument(
        "--pairs", type=Path, help="sentences with translations, kept in the manifest: source TAB target, or .jsonl with text, translation"
    )
    add("--target-lang", help="language of the translations, where the pairs do not say it, for instance de")
    add("--licence", help="of the text, to be noted in the corpus")
    add_voice_options(result)
    add("--held-out", action="store_true", help="speak with the held-out voices instead, for a development set")
    add("--list", action="store_true", help="list the voices and how often they speak, and stop")
    return result


def show(lines: list[str]) -> int:
    """Print lines; the exit status is 1 if their reader leaves early."""
    try:
        print("\n".join(lines), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would fail to flush it once more at exit
        return 1
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is 2 for what the user can put right."""
    options = parser().parse_args(arguments)
    try:
        cast = cast_of(options, held_out=options.held_out)
        if options.list:
            return show([f"{voice.id}\t{voice.weight:.4f}" for voice in cast.voices])
        lines, unread = read_text(options.text) if options.text else read_pairs(options.pairs, options.target_lang)
        print(f"{len(lines)} sentences, {unread} left out; {len(cast.voices)} voices", file=sys.stderr)
        about = {"file": (options.text or options.pairs).name, "licence": options.licence}
        summary = speak(
            lines, cast, options.root, options.out, jobs=options.jobs, repeat=options.repeat, about=about, progress=show_progress()
        )
    except CorpusError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nstopped; the same command goes on with {options.out}", file=sys.stderr)
        return 130
    print(f"{summary}, see {options.out / 'skipped.jsonl'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
