"""Attention with α-entmax weights and a learned α."""

from .op import entmax_attention

__all__ = ["entmax_attention"]
