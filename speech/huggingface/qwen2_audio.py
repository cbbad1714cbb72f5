"""Qwen2-Audio (Chu et al. 2024): Whisper's encoder before a language model."""

from __future__ import annotations

from torch import Tensor

from .decoder_only import SpeechLanguageModel

_SHIFT = 160  # samples between two feature frames at 16 kHz


class Qwen2Audio(SpeechLanguageModel):
    """A frame is 40 ms."""

    frame_ms = 40.0
    asks_for = ("en", "de", "es", "fr", "it", "ja", "zh")

    def columns(self, samples: Tensor) -> Tensor:
        frames = (samples + _SHIFT - 1) // _SHIFT
        frames = ((frames - 1) // 2 + 1 - 2) // 2 + 1
        return frames.clamp(0, self.most_frames)

    def question(self, instruction: str) -> str:
        content = [{"type": "audio", "audio": ""}, {"type": "text", "text": instruction}]
        text: str = self._processor.apply_chat_template([{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True)
        return text
