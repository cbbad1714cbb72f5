"""How a decoder looks at the source: one file a variant, one interface (`CrossAttention`), chosen by configuration."""

from .base import CrossAttention, Memory
from .soft import GlobalAttention

__all__ = ["CrossAttention", "GlobalAttention", "Memory"]
