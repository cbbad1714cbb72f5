"""Encoders: log-mel frames to hidden frames."""

from .conformer import ConformerConfig, ConformerEncoder, ConformerLayer

__all__ = ["ConformerConfig", "ConformerEncoder", "ConformerLayer"]
