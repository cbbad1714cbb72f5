"""Who may use the server."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from ..scheduler import Refused

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,256}")


class TokenError(ValueError):
    """A token file that cannot be used."""


class Tokens:
    """Bearer tokens, and the streams that each has open.

    Args:
        tokens: at least 16 characters each; none at all admits everyone.
        streams: that one token may have open at a time.
    """

    def __init__(self, tokens: Iterable[str] = (), streams: int = 32):
        self._known = {_digest(token) for token in tokens}
        self._streams = streams
        self._open: Counter[bytes] = Counter()

    @classmethod
    def from_file(cls, path: str | Path, streams: int = 32) -> Self:
        """One token a line; empty lines and lines that begin with # are passed over.

        Raises:
            TokenError: the file cannot be read, holds none, or holds something else.
        """
        try:
            lines = Path(path).read_text("ascii").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise TokenError(f"{path}: cannot be read as a list of tokens ({type(error).__name__}); write one token a line") from None
        tokens = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        for number, line in enumerate(lines, 1):
            if line.strip() in tokens and not _TOKEN.fullmatch(line.strip()):
                raise TokenError(f"{path}, line {number}: a token is 16 to 256 letters, digits or ._~+/=-")
        if not tokens:
            raise TokenError(f"{path}: no token in it; write one a line")
        return cls(tokens, streams)

    @property
    def required(self) -> bool:
        """Whether anyone is turned away."""
        return bool(self._known)

    def admits(self, token: str | None) -> bool:
        """Whether a token is known; digests are compared, so that timing tells nothing of the tokens."""
        return not self._known or (token is not None and _digest(token) in self._known)

    @contextmanager
    def stream(self, token: str | None) -> Iterator[None]:
        """Count a stream as long as it is open.

        Raises:
            Refused: the token has too many already.
        """
        key = _digest(token or "")
        if self._known and self._open[key] >= self._streams:
            raise Refused("limit", f"this token has {self._streams} streams open, which is all it may")
        self._open[key] += 1
        try:
            yield
        finally:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]


def bearer(authorization: str | None) -> str | None:
    """The token of an Authorization header."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
