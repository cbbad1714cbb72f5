"""Canary (Puvvada et al. 2024): a FastConformer encoder, encoded anew at each decision, and a decoder prompted with both languages."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .encoder_decoder import EncoderDecoder
from .errors import HuggingFaceError
from .parts import Parts, Settings, tensors
from .ring import RingSource


class Canary(RingSource, EncoderDecoder):
    """Translates between English and the languages of its checkpoint; a frame is 80 ms.

    The prompt is the checkpoint's own chat template. Speech is taken for English unless ``settings.source`` says otherwise.
    """

    def __init__(self, parts: Parts, settings: Settings):
        from transformers.models.canary.processing_canary import LANGUAGE_CODE_TO_NAME

        super().__init__(parts, settings)
        if parts.processor is None or not parts.processor.chat_template:
            raise HuggingFaceError(f"{parts.name} has no chat template, which tells how Canary is prompted")
        self._processor, self._features = parts.processor, parts.features
        self._prompts: dict[str, list[int]] = {}
        self._factor = parts.network.config.encoder_config.subsampling_factor
        self.sample_rate = parts.features.sampling_rate
        self.frame_ms = self._factor * parts.features.hop_length * 1000 / self.sample_rate
        self.most_frames = int(settings.seconds * 1000 / self.frame_ms)
        self.chunk = settings.chunk(self.frame_ms, self.sample_rate, self.most_frames)
        vocabulary = parts.tokenizer.get_vocab()
        known = [code for code in LANGUAGE_CODE_TO_NAME if f"<|{code}|>" in vocabulary]
        self._source = settings.source or "en"
        if self._source not in known:
            raise HuggingFaceError(f"{parts.name} does not hear {self._source!r}: it hears {', '.join(known)}")
        others = [code for code in known if code != self._source]
        self.languages = (*others, self._source) if settings.task == "translate" else ()

    def columns(self, samples: Tensor) -> Tensor:
        frames = samples // self._features.hop_length
        factor = self._factor
        while factor > 1:  # convolutions of kernel 3, stride 2 and padding 1
            frames, factor = (frames + 1) // 2, factor // 2
        return torch.where(samples < self.frame_samples, 0, frames).clamp(max=self.most_frames)

    def encode(self, source: Any, slot: int) -> tuple[Any, Tensor, int]:
        audio = self.audio(source, slot)
        features = self._features(audio.numpy(), sampling_rate=self.sample_rate, return_tensors="pt")
        inputs = tensors(features, self.device, self.network.dtype)
        encoded = self.network.get_encoder()(**inputs)
        return encoded, inputs["attention_mask"], int(self.columns(torch.tensor(len(audio))))

    def prompt(self, language: str | None, encoded: Any) -> list[int]:
        target = language or self._source
        if target not in self._prompts:
            nothing = np.zeros(self.sample_rate, np.float32)
            request = self._processor.apply_transcription_request(nothing, source_language=self._source, target_language=target)
            self._prompts[target] = request["decoder_input_ids"][0].tolist()
        return self._prompts[target]
