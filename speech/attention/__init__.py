"""Self-attention variants, one file each, one interface, chosen by configuration."""

from .chunked import ChunkedAttention
from .context import Context, at, attention_mask

__all__ = ["ChunkedAttention", "Context", "at", "attention_mask"]
