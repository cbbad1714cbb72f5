"""What a speech model is: audio, features, attention, encoders, losses, search, models, bundles.

``load`` is the way in: ``load("default").transcribe("talk.wav").text``. It is imported on first use, so that importing
a light part of this package does not wait for torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .model import SpeechModel, load

__all__ = ["SpeechModel", "load"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from . import model

        return getattr(model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
