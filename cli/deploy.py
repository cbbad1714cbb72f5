"""What a replica of `riverrun.streaming.deploy` runs: models by name, as ``riverrun serve`` does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .formats import FORMATS
from .model import load_model
from .serve import served

if TYPE_CHECKING:
    from riverrun.streaming.server import Engine


def engine(
    models: Sequence[str] = ("default",),
    device: str = "cpu",
    search: str = "greedy",
    beam: int = 4,
    latencies: Sequence[int] = (),
    threads: int | None = None,
) -> Engine:
    """Load models; the arguments are the options of ``riverrun serve``.

    Raises:
        UsageError: there is no such model, device or latency.
    """
    import torch

    from riverrun.speech.audio import Resampler, open_audio
    from riverrun.streaming.server import Engine

    if threads:
        torch.set_num_threads(threads)
    return Engine(
        served([load_model(name, device) for name in models], search, beam, latencies),
        Resampler,
        lambda recording, rate: open_audio(recording).blocks(sample_rate=rate),
        {name: FORMATS[name].render for name in ("srt", "vtt")},
    )
