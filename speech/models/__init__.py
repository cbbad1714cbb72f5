"""Whole models."""

from .recogniser import Recogniser, RecogniserConfig, TransducerConfig
from .translator import Translator, TranslatorConfig

__all__ = ["Recogniser", "RecogniserConfig", "TransducerConfig", "Translator", "TranslatorConfig"]
