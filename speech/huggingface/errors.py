"""What goes wrong with models from elsewhere."""

from __future__ import annotations


class HuggingFaceError(ValueError):
    """A model that cannot be found, loaded or used as asked: one line says what is wrong and what to do."""
