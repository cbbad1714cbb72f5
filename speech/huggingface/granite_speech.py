"""Granite Speech (IBM 2025): a Conformer and a windowed query transformer before a language model."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .decoder_only import SpeechLanguageModel
from .parts import Parts, Settings


class GraniteSpeech(SpeechLanguageModel):
    """A frame is 100 ms with the usual windows: 15 encoder frames of 20 ms become 3 tokens."""

    asks_for = ("en", "de", "es", "fr", "it", "ja", "pt", "zh")

    def __init__(self, parts: Parts, settings: Settings):
        features = parts.features
        self._window = features.projector_window_size
        self._tokens = self._window // features.projector_downsample_rate
        self._shift = features.melspec_kwargs["hop_length"]
        self.frame_ms = 2 * self._shift * self._window / self._tokens * 1000 / features.sampling_rate
        super().__init__(parts, settings)

    def columns(self, samples: Tensor) -> Tensor:
        windows = ((samples // self._shift + 1) // 2 + self._window - 1) // self._window
        begun = (samples + self.frame_samples - 1) // self.frame_samples
        return torch.minimum(windows * self._tokens, begun).clamp(max=self.most_frames)

    def question(self, instruction: str) -> str:
        turn = [{"role": "user", "content": f"{self._processor.audio_token}{instruction}"}]
        text: str = self._processor.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        return text

    def ask(self, question: str, audio: Tensor) -> Any:
        return self._processor(text=question, audio=audio[None], return_tensors="pt")
