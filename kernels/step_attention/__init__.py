"""Attention of live streams: append a step's keys and values to ring buffers, and attend."""

from .op import step_attention

__all__ = ["step_attention"]
