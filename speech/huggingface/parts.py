"""What an adapter is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from .errors import HuggingFaceError

#: Source between two decisions, in ms, where nothing else is asked for.
DECIDE_MS = 500.0


@dataclass(frozen=True)
class Parts:
    """A checkpoint, loaded.

    Attributes:
        name: as the user gave it, for messages.
        folder: where it lies.
        network: a model of transformers with eager attention, in evaluation mode.
        features: its feature extractor.
        tokenizer: its tokenizer.
        processor: both, with the chat template if there is one; None where the model needs none.
    """

    name: str
    folder: Path
    network: Any
    features: Any
    tokenizer: Any
    processor: Any = None


@dataclass(frozen=True)
class Settings:
    """How a checkpoint is used.

    Attributes:
        task: "translate", or "transcribe" to write in the language that is spoken.
        source: the language that is spoken; None leaves it to the model.
        target: the language that a model writes which does not say so itself.
        chunk_ms: source between two decisions at least, which is rounded up to whole frames; infinite: as much as the model allows.
        seconds: of source that a stream holds at most.
        beam: hypotheses of the search.
        layer: decoder layer, counted from 1, whose attention policies see; None: the one at two thirds of the depth, Whisper's own heads,
            or all layers of a speech language model.
        standardised: of models whose attention is to be standardised for alignment (Whisper, speech language models): whether it is.
            EDAtt, which sums attention, wants it as it is.

    Raises:
        HuggingFaceError: a value out of range.
    """

    task: Literal["translate", "transcribe"] = "translate"
    source: str | None = None
    target: str | None = None
    chunk_ms: float = DECIDE_MS
    seconds: float = 30.0
    beam: int = 1
    layer: int | None = None
    standardised: bool = True

    def __post_init__(self) -> None:
        if not self.chunk_ms >= 20:
            raise HuggingFaceError(f"decisions every {self.chunk_ms:g} ms: give at least 20 milliseconds")
        if not 1 <= self.beam <= 64:
            raise HuggingFaceError(f"a beam of {self.beam}: give 1 to 64 hypotheses")

    def chunk(self, frame_ms: float, sample_rate: int, most_frames: int) -> int:
        """Samples between two decisions, in whole frames, for a stream that holds ``most_frames``, of which each must leave half."""
        frames = math.ceil(self.chunk_ms / frame_ms) if self.chunk_ms < math.inf else most_frames // 2 - 2
        return round(frames * frame_ms * sample_rate / 1000)


def tensors(features: Any, device: torch.device, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """What a feature extractor gave, on the network's device; floats in its dtype."""
    return {
        name: value.to(device, dtype if value.is_floating_point() else None)
        for name, value in features.items()
        if isinstance(value, torch.Tensor)
    }


def decoder_config(network: Any) -> Any:
    """The configuration of a network's decoder: a part of its own, or of the whole."""
    config = network.config
    return getattr(config, "decoder_config", None) or getattr(config, "text_config", None) or config
