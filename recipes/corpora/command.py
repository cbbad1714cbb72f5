"""What the corpus commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable


def show_progress() -> Callable[[int, int], None] | None:
    """A line that counts on a terminal; None in a pipe."""
    return _show if sys.stderr.isatty() else None


def _show(done: int, of: int) -> None:
    print(f"\r{done} of {of}", end="\n" if done == of else "", file=sys.stderr, flush=True)
