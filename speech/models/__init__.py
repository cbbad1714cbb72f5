"""Whole models."""

from .recogniser import Recogniser, RecogniserConfig, TransducerConfig

__all__ = ["Recogniser", "RecogniserConfig", "TransducerConfig"]
