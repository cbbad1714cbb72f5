"""Self-attention variants, one file each, one interface, chosen by configuration."""

from .chunked import ChunkedAttention
from .context import Context, Visibility, at, attention_mask

__all__ = ["ChunkedAttention", "Context", "Visibility", "at", "attention_mask"]
