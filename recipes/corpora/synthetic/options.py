"""Options that the commands on synthetic speech share."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from .voices import DEFAULT, Cast, read_cast


def add_voice_options(parser: argparse.ArgumentParser) -> None:
    """Add where to, with which voices, how often and in how many processes."""
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder of the corpus")
    add("--root", type=Path, default=Path("/"), help="folder with the engines' Debian packages unpacked; / for installed ones")
    add("--config", type=Path, default=DEFAULT, help="voices, hold-outs and variation (default: %(default)s)")
    add("--engines", help="only these, with commas between (default: all of the configuration)")
    add("--repeat", type=int, default=1, metavar="N", help="voices per sentence")
    add("--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="worker processes (default: %(default)s)")


def cast_of(options: argparse.Namespace, *, held_out: bool) -> Cast:
    """The voices that speak.

    Raises:
        SynthesisError: the configuration is wrong, or has no such voice.
    """
    engines = set(options.engines.split(",")) if options.engines else None
    return read_cast(options.config).choose(held_out=held_out, engines=engines)
