"""Corpora for other tools: packed ones as audio files with a manifest, manifests as lhotse's and back.

``python -m riverrun.recipes.corpora.convert to-files PACKED --out DIR`` makes what ``riverrun evaluate`` reads.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from riverrun.speech.audio import AudioError, write_audio
from riverrun.speech.manifest import Entry, ManifestError, read_lhotse, read_manifest, write_lhotse, write_manifest

from .errors import CorpusError
from .packed import SAMPLE_RATE, PackedCorpus


def parser() -> argparse.ArgumentParser:
    """The command line."""
    result = argparse.ArgumentParser(prog="python -m riverrun.recipes.corpora.convert", description="Convert corpora for other tools.")
    commands = result.add_subparsers(dest="command", required=True)
    files = commands.add_parser("to-files", help="a packed corpus to audio files with a manifest.jsonl")
    files.add_argument("packed", type=Path, help="folder of the packed corpus")
    files.add_argument("--out", type=Path, required=True, help="folder for manifest.jsonl and audio/")
    files.add_argument("--format", choices=("flac", "wav", "opus"), default="flac", help="of the audio files (default: %(default)s)")
    to = commands.add_parser("to-lhotse", help="a manifest to lhotse's recordings, supervisions and cuts")
    to.add_argument("manifest", type=Path, help="JSON Lines with id, audio and text")
    to.add_argument("--out", type=Path, required=True, help="folder for the three manifests")
    back = commands.add_parser("from-lhotse", help="lhotse's manifests of whole recordings to a manifest")
    back.add_argument("manifests", type=Path, help="file of cuts, or folder with cuts, or with recordings and supervisions")
    back.add_argument("--out", type=Path, required=True, help="manifest to write")
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 2 for what the user can put right."""
    options = parser().parse_args(arguments)
    try:
        if options.command == "to-files":
            count = to_files(options.packed, options.out, options.format)
        elif options.command == "to-lhotse":
            entries = read_manifest(options.manifest)
            write_lhotse(options.out, entries)
            count = len(entries)
        else:
            entries = read_lhotse(options.manifests)
            write_manifest(options.out, entries)
            count = len(entries)
    except (CorpusError, ManifestError, AudioError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{count} utterances in {options.out}")
    return 0


def to_files(packed: Path, out: Path, suffix: str) -> int:
    """Write each utterance of a packed corpus as a file, and a manifest of them all; how many there are.

    Raises:
        CorpusError: there is no such corpus, or an utterance of it is broken.
        AudioError: a file cannot be written.
    """
    try:
        corpus = PackedCorpus(packed)
        (out / "audio").mkdir(parents=True, exist_ok=True)
    except ValueError as error:
        raise CorpusError(str(error)) from None
    except OSError as error:
        raise CorpusError(f"{out}: {(error.strerror or str(error)).lower()}") from None
    if corpus.skipped:
        raise CorpusError(f"{packed}: {len(corpus.skipped)} broken utterances; the first: {corpus.skipped[0]}")
    entries = []
    for number, utterance in enumerate(corpus):
        row = {key: value for key, value in utterance.row.items() if key not in ("audio", "offset", "samples", "text", "duration")}
        id = str(row.pop("id", number))
        path = out / "audio" / f"{number:07d}-{re.sub(r'[^A-Za-z0-9_.-]', '_', id)[:100]}.{suffix}"
        if not path.exists():  # an earlier run's: files appear whole
            write_audio(path, corpus.samples_of(utterance), SAMPLE_RATE)
        entries.append(Entry(id, path, utterance.text, round(utterance.samples / SAMPLE_RATE, 3), row))
    write_manifest(out / "manifest.jsonl", entries)
    return len(entries)


if __name__ == "__main__":
    sys.exit(main())
