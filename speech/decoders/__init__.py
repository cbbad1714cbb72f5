"""Decoders: target labels and a source to hidden label steps."""

from .bound import BoundDecoder
from .transformer import DecoderConfig, DecoderState, TransformerDecoder

__all__ = ["BoundDecoder", "DecoderConfig", "DecoderState", "TransformerDecoder"]
