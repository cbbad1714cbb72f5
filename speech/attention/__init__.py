"""Self-attention variants, one file each, one interface, chosen by configuration."""

from .chunked import ChunkedAttention
from .context import Context, at

__all__ = ["ChunkedAttention", "Context", "at"]
