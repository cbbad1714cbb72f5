"""Where results go: files that appear whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from .errors import UsageError


def prepare_folder(folder: Path) -> None:
    """Make ``folder`` if need be, and prove that files can be written there.

    Raises:
        UsageError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {_reason(error)}; choose another place with --output") from None


def write_whole(path: Path, content: str) -> None:
    """Write UTF-8 ``content`` under a temporary name, then rename: ``path`` is the old file or the new one, never half of one.

    Raises:
        UsageError: the file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            temporary.write_text(content, encoding="utf-8", newline="\n")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {_reason(error)}; free the place or choose another with --output") from None


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
