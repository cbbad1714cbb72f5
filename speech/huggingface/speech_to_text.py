"""Speech2Text (Wang et al. 2020, "fairseq S2T"): a Transformer over log-mel features, encoded anew at each decision."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .encoder_decoder import EncoderDecoder
from .errors import HuggingFaceError
from .parts import Parts, Settings, tensors
from .ring import RingSource

_WINDOW, _SHIFT = 400, 160  # samples of a feature frame at 16 kHz, and between two


class Speech2Text(RingSource, EncoderDecoder):
    """Translates, or writes English, as its checkpoint was trained; a frame is 40 ms.

    Multilingual checkpoints say which languages they write. The others do not: ``settings.target`` names it.
    """

    def __init__(self, parts: Parts, settings: Settings):
        super().__init__(parts, settings)
        config, tokenizer = parts.network.config, parts.tokenizer
        self._features, self._stride = parts.features, 2**config.num_conv_layers
        self.sample_rate = parts.features.sampling_rate
        self.frame_ms = self._stride * _SHIFT * 1000 / self.sample_rate
        self.most_frames = min(config.max_source_positions // self._stride, int(settings.seconds * 1000 / self.frame_ms))
        self.chunk = settings.chunk(self.frame_ms, self.sample_rate, self.most_frames)
        self._tags: dict[str, int] = dict(tokenizer.lang_code_to_id)
        self.languages = tuple(self._tags) or ((settings.target,) if settings.target else ())
        if settings.task == "transcribe":
            if self._tags:
                raise HuggingFaceError(f"{parts.name} translates, and does not transcribe: use riverrun translate")
            self.languages = ()

    def columns(self, samples: Tensor) -> Tensor:
        frames = (samples - _WINDOW + _SHIFT) // _SHIFT
        return ((frames + self._stride - 1) // self._stride).clamp(0, self.most_frames)

    def encode(self, source: Any, slot: int) -> tuple[Any, Tensor, int]:
        audio = self.audio(source, slot).numpy()
        inputs = tensors(self._features(audio, sampling_rate=self.sample_rate, return_tensors="pt"), self.device, self.network.dtype)
        encoded = self.network.get_encoder()(**inputs)
        return encoded, inputs["attention_mask"], encoded.last_hidden_state.shape[1]

    def prompt(self, language: str | None, encoded: Any) -> list[int]:
        begin = [self.network.config.decoder_start_token_id]
        return [*begin, self._tags[language]] if self._tags and language else begin
