"""The one place where commands load a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from .errors import UsageError
from .progress import loading

if TYPE_CHECKING:
    from riverrun.speech.model import SpeechModel


def load_model(name: str, device: str = "cpu", latency: int | Literal["full"] | None = None) -> SpeechModel:
    """Load a model, and check that the device is here and that the model offers the latency.

    Raises:
        UsageError: no such device, or no such latency.
        BundleError: no such model, or a damaged one.
    """
    with loading(name):
        model = _load(name, device)
    try:
        model.stream(latency_ms=latency)
    except ValueError as error:
        offered = ", ".join(map(str, model.info.get("latencies_ms", ())))
        raise UsageError(f"model {name}: {error}; it was trained for {offered}") from None
    return model


def _load(name: str, device: str) -> SpeechModel:
    import torch

    from riverrun.speech import load

    if device.startswith("cuda"):
        index = int(device.partition(":")[2] or 0)
        if index >= torch.cuda.device_count():
            raise UsageError(f"there is no device {device} on this machine; use --device cpu")
    return load(name, device=device)
