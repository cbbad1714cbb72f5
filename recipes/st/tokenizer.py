"""Train a target tokenizer: ``python -m riverrun.recipes.st.tokenizer --out de.model --vocabulary 4000 pairs/*.tsv``.

Files are ``source TAB target`` lines, or JSON lines with ``translation``. Case and punctuation stay: they are part of the translation.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import sentencepiece

from riverrun.speech.tokenizer import Tokenizer

_LONGEST = 1000  # characters of a sentence


class TextFileError(ValueError):
    """A file of pairs that cannot be read: the message names the file and the line."""


def read_pairs(path: Path) -> Iterator[tuple[str, str]]:
    """Source and target of each line of a table (``.tsv``) or of JSON lines.

    Raises:
        TextFileError: the file is missing, or a line holds no pair.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise TextFileError(f"{path} cannot be read: {error}") from None
    for number, line in enumerate(lines, 1):
        try:
            row: Any = line.split("\t") if path.suffix == ".tsv" else json.loads(line)
            source, target = row[:2] if isinstance(row, list) else (row["text"], row["translation"])
        except (ValueError, KeyError, TypeError):
            raise TextFileError(f"{path}, line {number} holds no pair of a text and its translation") from None
        yield source, target


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """A unigram model (Kudo 2018) whose id 0 bounds the text and whose id 1 stands for unknown characters.

    Args:
        texts: one or more.
        vocabulary: number of pieces.

    Raises:
        ValueError: the texts have not enough different words for the vocabulary.
    """
    model: list[bytes] = []

    class Writer:
        def write(self, data: bytes) -> None:
            model.append(data)

    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(text[:_LONGEST] for text in texts),
            model_writer=Writer(),
            vocab_size=vocabulary,
            character_coverage=1.0,
            pad_id=0,
            pad_piece="<blk>",
            unk_id=1,
            bos_id=-1,
            eos_id=-1,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = str(error).rpartition("] ")[2]
        raise ValueError(f"no tokenizer of {vocabulary} pieces can be made of these {len(texts)} texts: {reason}") from None
    return Tokenizer(b"".join(model))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 2 for what the user can put right."""
    parser = argparse.ArgumentParser(prog="python -m riverrun.recipes.st.tokenizer", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="pairs to train on: .tsv or JSON lines")
    parser.add_argument("--out", type=Path, required=True, help="where the model goes")
    parser.add_argument("--vocabulary", type=int, default=4000)
    given = parser.parse_args(arguments)
    try:
        texts = [target for path in given.files for _, target in read_pairs(path)]
        tokenizer = train_tokenizer(texts, given.vocabulary)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    temporary = given.out.with_name(given.out.name + ".part")
    temporary.write_bytes(tokenizer.data)
    temporary.replace(given.out)
    labels = [len(tokenizer.encode(text)) for text in texts]
    print(f"{given.out}: {len(tokenizer)} pieces; {sum(labels) / len(labels):.1f} labels a text, at most {max(labels)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
