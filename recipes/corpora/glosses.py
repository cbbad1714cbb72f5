"""Definitions and example sentences of WordNet (Fellbaum 1998): a wide vocabulary in short, natural phrases.

Its database files (``data.noun``, ``data.verb`` …; Debian's package wordnet-base, the WordNet licence) hold a line for each sense, whose
gloss stands behind a bar: definitions, then examples in double quotes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_EXAMPLE = re.compile(r'"([^"]+)"')
_ASIDE = re.compile(r"\([^)]*\)")


def glosses(folder: Path) -> Iterator[str]:
    """Each definition and each example of the database in ``folder``, begun with a capital and ended with a full stop.

    Raises:
        ValueError: the folder holds no database files.
    """
    files = sorted(folder.glob("data.*"))
    if not files:
        raise ValueError(f"{folder} holds no WordNet database: no file is named data.noun, data.verb …")
    for file in files:
        for line in file.read_text(encoding="utf-8").splitlines():
            if line.startswith(" ") or " | " not in line:  # the licence stands at the top, indented
                continue
            gloss = line.split(" | ", 1)[1]
            examples = _EXAMPLE.findall(gloss)
            definitions = _ASIDE.sub("", _EXAMPLE.sub("", gloss)).split(";")
            for phrase in (*examples, *definitions):
                if text := phrase.strip(" ;:,-"):
                    yield text[0].upper() + text[1:] + ("" if text[-1] in ".?!" else ".")
