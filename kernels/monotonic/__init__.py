"""Expected monotonic attention for training: alignments, chunkwise and infinite-lookback soft attention."""

from .op import expected_alignment, expected_soft_attention

__all__ = ["expected_alignment", "expected_soft_attention"]
