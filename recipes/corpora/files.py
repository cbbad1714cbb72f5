"""Small text files that appear whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


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
