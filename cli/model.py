"""What the commands need of a speech model, and the one place that loads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, cast

from .errors import UsageError
from .progress import loading

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from riverrun.streaming.events import Event, Transcript


class Stream(Protocol):
    """One live stream."""

    def push(self, samples: NDArray[np.float32]) -> list[Event]:
        """Hear mono samples (n,); what is new to say."""

    def finish(self) -> list[Event]:
        """The stream has ended; what remained to say."""


class SpeechModel(Protocol):
    """A loaded model."""

    card: str
    info: Mapping[str, Any]

    def transcribe(
        self,
        source: Any,
        *,
        latency_ms: int | str | None = None,
        search: str = "greedy",
        beam: int = 4,
        on_progress: Callable[[float], None] | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> Transcript:
        """The transcript of a path, an audio source, or mono samples (n,)."""

    def stream(
        self, *, latency_ms: int | str | None = None, sample_rate: int = 16000, search: str = "greedy", beam: int = 4
    ) -> AbstractContextManager[Stream]:
        """A live stream; ValueError if the model cannot do the latency or the search."""


def load_model(name: str, device: str = "cpu", latency: int | str | None = None) -> SpeechModel:
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
    return cast(SpeechModel, load(name, device=device))
