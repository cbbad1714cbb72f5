"""Translation and recognition models of Hugging Face's transformers, as riverrun streams them.

``load("owner/name")`` or ``load("folder")`` gives a `HuggingFaceModel`; its `attention_model` implements
`riverrun.streaming.attention_model.AttentionModel`, so that every policy runs on it. It is imported on first use: transformers is slow to
import, and an extra (``riverrun[hf]``).
"""

from typing import TYPE_CHECKING, Any

from .errors import HuggingFaceError

if TYPE_CHECKING:
    from .model import HuggingFaceModel, load

__all__ = ["HuggingFaceError", "HuggingFaceModel", "load"]


def __getattr__(name: str) -> Any:
    if name in ("HuggingFaceModel", "load"):
        from . import model

        return getattr(model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
