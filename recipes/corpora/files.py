"""Text files of corpora: read with clear errors, written whole or not at all."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .errors import CorpusError


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines of text under a temporary name, then rename."""
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write JSON Lines as `write_lines` does."""
    write_lines(path, (json.dumps(row, ensure_ascii=False) for row in rows))


def write_json(path: Path, value: Any) -> None:
    """Write one indented JSON value as `write_lines` does."""
    write_lines(path, [json.dumps(value, ensure_ascii=False, indent=1)])


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file, gzipped or not, without their ends.

    Raises:
        CorpusError: it cannot be read.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return [line.removesuffix("\r") for line in content.decode("utf-8-sig").removesuffix("\n").split("\n")]
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: not UTF-8 at byte {error.start}; convert it to UTF-8") from None
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CorpusError(f"{path}: {reason.lower()}") from None
