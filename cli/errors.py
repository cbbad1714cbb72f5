"""How commands speak of trouble: one line on stderr, and an exit status.

0: all done. 1: some of many inputs failed, the rest is done. 2: nothing could be done with what was given.
130: stopped by Ctrl-C; what was finished is kept.
"""

from __future__ import annotations

import sys


class UsageError(ValueError):
    """Something that the user gave cannot be used; the message says what, and what to do instead."""


class Stopped(Exception):
    """Ctrl-C, after what was finished has been kept; the message says what was finished."""


def say(message: str) -> None:
    """Print one line on stderr, under the program's name."""
    sys.stdout.flush()
    print(f"riverrun: {' '.join(message.split())}", file=sys.stderr, flush=True)


def is_users(error: BaseException) -> bool:
    """Whether an error is the user's to mend: every ValueError that riverrun itself defines, whose message is written for them."""
    return isinstance(error, ValueError) and type(error).__module__.startswith("riverrun.")


def about(name: str, error: BaseException) -> str:
    """The message of ``error``, led by the input's name unless it already names it."""
    message = str(error)
    return message if message.startswith(name) else f"{name}: {message}"
