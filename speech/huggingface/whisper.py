"""Whisper (Radford et al. 2023): 30 s of padded audio encoded at each decision, attention of its alignment heads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .alignment import mean_of_heads, median_filter, standardise
from .encoder_decoder import EncoderDecoder
from .errors import HuggingFaceError
from .parts import Parts, Settings, tensors
from .ring import RingSource


class Whisper(RingSource, EncoderDecoder):
    """Translates into English, or writes down what is said (also where ``settings.source`` is the target).

    Attention is that of ``generation_config.alignment_heads`` (all heads of the upper half of the layers, where a checkpoint names
    none): z-scores over the queries, a running median over time, the mean of the heads, as for Whisper's word times. A frame is 20 ms.

    Without ``settings.source`` a multilingual model tells the language of what it holds at each decision.
    """

    policy_defaults = {
        "alignatt": {"frames": 25, "rewind": 200},
        "streamatt": {"frames": 25, "rewind": 200},
    }

    def __init__(self, parts: Parts, settings: Settings):
        super().__init__(parts, settings)
        features, config, generation = parts.features, parts.network.config, parts.network.generation_config
        self._features = features
        self.sample_rate = features.sampling_rate
        self.most_frames = min(config.max_source_positions, int(settings.seconds * 50))
        self.frame_ms = features.hop_length * 2 * 1000 / self.sample_rate
        self.chunk = settings.chunk(self.frame_ms, self.sample_rate, self.most_frames)
        self._codes = {code.strip("<|>"): token for code, token in (getattr(generation, "lang_to_id", None) or {}).items()}
        self._heads = getattr(generation, "alignment_heads", None) or [
            (layer, head)
            for layer in range(config.decoder_layers // 2, config.decoder_layers)
            for head in range(config.decoder_attention_heads)
        ]
        source = settings.source
        if source is not None and source != "en" and source not in self._codes:
            heard = ", ".join(self._codes) or "en"
            raise HuggingFaceError(f"{self.name} does not hear {source!r}: it hears {heard}")
        translates = ("en",) if source in (None, "en") else ("en", source)
        self.languages = translates if settings.task == "translate" else ()
        self._begin = [config.decoder_start_token_id]
        self._tasks: dict[str, int] = getattr(generation, "task_to_id", None) or {}
        self._no_timestamps = getattr(generation, "no_timestamps_token_id", None)

    def _suppressed(self, parts: Parts) -> list[int]:
        first = getattr(parts.network.generation_config, "no_timestamps_token_id", None)
        times = [] if first is None else range(first, self._outputs())
        return [*super()._suppressed(parts), *times]

    def columns(self, samples: Tensor) -> Tensor:
        return (samples // self.frame_samples).clamp(max=self.most_frames)

    def encode(self, source: Any, slot: int) -> tuple[Any, None, int]:
        audio = self.audio(source, slot)
        features = self._features(audio.numpy(), sampling_rate=self.sample_rate, return_tensors="pt")
        inputs = tensors(features, self.device, self.network.dtype)["input_features"]
        return self.network.get_encoder()(inputs), None, int(self.columns(torch.tensor(len(audio))))

    def prompt(self, language: str | None, encoded: Any) -> list[int]:
        begin = list(self._begin)
        if self._codes:
            spoken = self.settings.source or self.detect(encoded)
            task = "translate" if language == "en" and spoken != "en" else "transcribe"
            begin += [self._codes[spoken], self._tasks[task]]
        return begin if self._no_timestamps is None else [*begin, self._no_timestamps]

    def detect(self, encoded: Any) -> str:
        """The likeliest language of encoder outputs."""
        scores = self._call(encoded, None, torch.tensor([self._begin], device=self.device), use_cache=False).logits[0, -1]
        names, ids = list(self._codes), list(self._codes.values())
        return names[int(scores[ids].argmax())]

    def align(self, attention: Sequence[Tensor]) -> Tensor:
        if self.settings.layer is not None:
            heads = attention[self.layer - 1]
        else:
            heads = torch.stack([attention[layer][head] for layer, head in self._heads])
        if not self.settings.standardised:
            return mean_of_heads(heads)
        return mean_of_heads(median_filter(standardise(heads), self.network.config.median_filter_width))
