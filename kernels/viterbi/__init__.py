"""Best monotonic paths: CTC forced alignment and monotonic alignment search."""

from .op import ctc_alignment, monotonic_alignment

__all__ = ["ctc_alignment", "monotonic_alignment"]
