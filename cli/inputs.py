"""What is to be read: files, folders, or PCM from standard input."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, cast

from .errors import UsageError

STDIN = "-"

#: Suffixes by which a folder's recordings are known; a file named on the command line may have any suffix.
AUDIO_SUFFIXES = frozenset(
    [
        *(".aac", ".aif", ".aiff", ".au", ".caf", ".flac", ".m4a", ".mka", ".mkv", ".mov", ".mp3", ".mp4"),
        *(".oga", ".ogg", ".opus", ".sph", ".w64", ".wav", ".webm", ".wma"),
    ]
)


def expand(arguments: Sequence[str]) -> list[str]:
    """Recordings in order: files as given, folders searched through and sorted, ``-`` as it is; nothing twice.

    Raises:
        UsageError: a folder without recordings.
    """
    found: dict[object, str] = {}
    for argument in arguments:
        path = Path(argument)
        if argument == STDIN or not path.is_dir():
            found.setdefault(STDIN if argument == STDIN else path.resolve(), argument)
            continue
        files = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in AUDIO_SUFFIXES and not file.name.startswith(".")]
        if not files:
            raise UsageError(f"{argument}: no recordings in this folder; name the files if they have unusual suffixes")
        for file in files:
            found.setdefault(file.resolve(), str(file))
    return list(found.values())


def output_names(inputs: Sequence[str]) -> list[str]:
    """A distinct name without suffix for the output of each input: its stem, led by as many folders as tell equal stems apart.

    ``talk.wav`` and ``talk.mp3`` of one folder keep their suffixes. Names that differ only in case count as equal, as they do on
    some file systems.
    """
    paths = [Path("stdin") if name == STDIN else Path(name).resolve() for name in inputs]
    kept = Counter((path.parent, path.stem.casefold()) for path in paths)
    parts = [
        (*path.parent.parts[1:], path.name if kept[path.parent, path.stem.casefold()] > 1 and path.suffix else path.stem) for path in paths
    ]
    depth = [1] * len(paths)
    while True:
        names = ["-".join(own[-n:]) for own, n in zip(parts, depth, strict=True)]
        count = Counter(name.casefold() for name in names)
        longer = [min(n + 1, len(own)) if count[name.casefold()] > 1 else n for name, own, n in zip(names, parts, depth, strict=True)]
        if longer == depth:
            break
        depth = longer
    seen: Counter[str] = Counter()
    for i, name in enumerate(names):
        seen[name.casefold()] += 1
        if seen[name.casefold()] > 1:
            names[i] = f"{name}-{seen[name.casefold()]}"
    return names


def standard_input() -> BinaryIO:
    """Standard input, once it is known to be a pipe of bare samples.

    Raises:
        UsageError: it is a terminal, is empty, or begins as an audio file does.
    """
    if sys.stdin.isatty():
        raise UsageError("'-' reads PCM samples from a pipe, and standard input is a terminal; name a file, or pipe audio in")
    head = cast(BufferedReader, sys.stdin.buffer).peek(4)[:4]
    kinds = {b"RIFF": "a WAV file", b"fLaC": "a FLAC file", b"OggS": "an Ogg file", b"ID3": "an MP3 file"}
    for magic, kind in kinds.items():
        if head.startswith(magic):
            raise UsageError(f"standard input is {kind}, and '-' reads bare PCM samples; name the file instead")
    return sys.stdin.buffer
