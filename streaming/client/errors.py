"""What goes wrong with a server."""

from __future__ import annotations


class ClientError(ValueError):
    """The server cannot be used, or has ended the stream; ``code`` is that of the protocol's error, or "connection"."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code
