"""SeamlessM4T, versions 1 and 2 (Seamless Communication 2023): speech encoder and text decoder, encoded anew at each decision."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .encoder_decoder import EncoderDecoder
from .errors import HuggingFaceError
from .languages import two_letters
from .parts import Parts, Settings, tensors
from .ring import RingSource

_WINDOW, _SHIFT = 400, 160  # samples of a feature frame at 16 kHz, and between two


class SeamlessM4T(RingSource, EncoderDecoder):
    """Translates into the languages of its checkpoint; a frame is 160 ms."""

    def __init__(self, parts: Parts, settings: Settings):
        super().__init__(parts, settings)
        config = parts.network.config
        self._features = parts.features
        self.sample_rate = parts.features.sampling_rate
        self._stride = parts.features.stride * config.adaptor_stride**config.num_adapter_layers
        self.frame_ms = self._stride * _SHIFT * 1000 / self.sample_rate
        self.most_frames = int(settings.seconds * 1000 / self.frame_ms)
        self.chunk = settings.chunk(self.frame_ms, self.sample_rate, self.most_frames)
        tags: dict[str, int] = getattr(parts.network.generation_config, "text_decoder_lang_to_code_id", None) or {}
        self._tags = {two_letters(code): token for code, token in tags.items()}
        if not self._tags:
            raise HuggingFaceError(f"{parts.name}: its generation_config.json names no languages (text_decoder_lang_to_code_id)")
        if settings.task == "transcribe" and settings.source not in self._tags:
            raise HuggingFaceError(f"{parts.name} writes down speech of a language that it is told: use riverrun translate --to LANGUAGE")
        first = "en" if "en" in self._tags else next(iter(self._tags))
        self.languages = (first, *(code for code in self._tags if code != first)) if settings.task == "translate" else ()

    def columns(self, samples: Tensor) -> Tensor:
        features = self._features
        frames = ((samples - _WINDOW + _SHIFT) // _SHIFT + features.stride - 1) // features.stride
        config = self.network.config
        for _ in range(config.num_adapter_layers):
            frames = (frames + 2 * (config.adaptor_kernel_size // 2) - config.adaptor_kernel_size) // config.adaptor_stride + 1
        return torch.where(samples < _WINDOW, 0, frames).clamp(max=self.most_frames)

    def encode(self, source: Any, slot: int) -> tuple[Any, Tensor, int]:
        audio = self.audio(source, slot)
        features = self._features(audio.numpy(), sampling_rate=self.sample_rate, return_tensors="pt")
        inputs = tensors(features, self.device, self.network.dtype)
        encoded = self.network.get_encoder()(**inputs)
        return encoded, inputs["attention_mask"], min(int(self.columns(torch.tensor(len(audio)))), encoded.last_hidden_state.shape[1])

    def prompt(self, language: str | None, encoded: Any) -> list[int]:
        return [self.network.config.decoder_start_token_id, self._tags[language or self.settings.source or self.languages[0]]]
