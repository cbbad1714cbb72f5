"""The one place where commands load a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from .errors import UsageError
from .progress import loading

if TYPE_CHECKING:
    from riverrun.speech.model import SpeechModel


def load_model(name: str, device: str = "cpu", latency: int | Literal["full"] | None = None) -> SpeechModel:
    """Load a model that recognises speech, and check that the device is here and that the model offers the latency.

    Raises:
        UsageError: no such device, no such latency, or the model only translates.
        BundleError: no such model, or a damaged one.
        HuggingFaceError: likewise of a checkpoint, named "hf:owner/name" or "hf:FOLDER".
    """
    model = load_any(name, device)
    if not hasattr(model, "stream"):
        raise UsageError(f"model {name} is a translator: use riverrun translate, or give a recogniser")
    try:
        model.stream(latency_ms=latency)
    except ValueError as error:
        offered = ", ".join(map(str, model.info.get("latencies_ms", ())))
        raise UsageError(f"model {name}: {error}" + (f"; it was trained for {offered}" if offered else "")) from None
    return model


def load_any(name: str, device: str = "cpu") -> Any:
    """Load a model of any kind.

    Raises:
        UsageError: no such device.
        BundleError: no such model, or a damaged one.
        HuggingFaceError: likewise of a checkpoint.
    """
    with loading(name):
        import torch

        from riverrun.speech import load

        if device.startswith("cuda"):
            index = int(device.partition(":")[2] or 0)
            if index >= torch.cuda.device_count():
                raise UsageError(f"there is no device {device} on this machine; use --device cpu")
        return load(name, device=device)
