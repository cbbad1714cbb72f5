"""Self-attention variants, one file each, one interface, chosen by configuration."""

from .chunked import ChunkedAttention
from .context import Context, Visibility, at, attention_mask

#: Variants by the name that a configuration chooses them by: subclasses, or others with the constructor and methods of `ChunkedAttention`.
ATTENTIONS: dict[str, type[ChunkedAttention]] = {"chunked": ChunkedAttention}

__all__ = ["ATTENTIONS", "ChunkedAttention", "Context", "Visibility", "at", "attention_mask"]
