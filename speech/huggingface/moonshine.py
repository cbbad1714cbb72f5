"""MoonshineStreaming (Useful Sensors 2025): English speech to text with an encoder that streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from riverrun.streaming import State, States, last_frames

from .encoder_decoder import EncoderDecoder
from .errors import HuggingFaceError
from .moonshine_encoder import streaming_encoder
from .parts import Parts, Settings


@dataclass
class EncoderRing(State):
    """The encoder's state, and its newest frames at the ring's right end."""

    front: States
    frames: Tensor  # (slots, most frames, dim)
    held: Tensor  # (slots,) int64


class MoonshineStreaming(EncoderDecoder):
    """Writes the language of its checkpoint; a frame is 20 ms, and appears once its layers have seen what is ahead of it.

    The decoder counts positions from the oldest frame held.
    """

    def __init__(self, parts: Parts, settings: Settings):
        super().__init__(parts, settings)
        if getattr(parts.features, "do_normalize", False):
            raise HuggingFaceError(f"{parts.name}: its preprocessor_config.json normalises whole recordings, which cannot be streamed")
        config = parts.network.config
        self.sample_rate, self.delay = config.encoder_config.sample_rate, 0
        self._encoder = parts.network.get_encoder()
        self._front = streaming_encoder(self._encoder)
        self.frame_ms = self._front.stride * 1000 / self.sample_rate
        self.most_frames = min(config.max_position_embeddings, int(settings.seconds * 1000 / self.frame_ms))
        self.chunk = settings.chunk(self.frame_ms, self.sample_rate, self.most_frames)
        self.languages = (settings.target or "en",) if settings.task == "translate" else ()
        self._begin = next(
            token
            for token in (parts.network.generation_config.decoder_start_token_id, config.decoder_start_token_id, config.bos_token_id)
            if token is not None
        )

    @property
    def _like(self) -> Tensor:
        return torch.zeros(0, device=self.device, dtype=self.network.dtype)

    def init_source(self, slots: int) -> EncoderRing:
        """Sources of ``slots`` streams that have heard nothing."""
        frames = self._like.new_zeros(slots, self.most_frames, self._encoder.config.hidden_size)
        return EncoderRing(self._front.init_state(slots, self._like), frames, torch.zeros(slots, dtype=torch.long, device=self.device))

    @torch.no_grad()
    def hear(self, audio: Tensor, lengths: Tensor, source: EncoderRing) -> EncoderRing:
        """Audio (S, C), samples (S,): the encoder takes in the frames that they complete, each once."""
        x, frames, front = self._front.step(audio.to(self._like), lengths.to(self.device), source.front)
        return self._append(x, frames, front, source)

    @torch.no_grad()
    def finish(self, source: EncoderRing) -> EncoderRing:
        """Sources with the frames that waited for what is ahead of them."""
        tail = self._front.flush(source.front)
        return source if tail is None else self._append(*tail, source.front, source)

    def _append(self, x: Tensor, frames: Tensor, front: States, source: EncoderRing) -> EncoderRing:
        return EncoderRing(front, last_frames(source.frames, x, frames), (source.held + frames).clamp(max=self.most_frames))

    def frames(self, source: EncoderRing) -> Tensor:
        """Encoder frames (S,) that each stream holds."""
        return source.held

    def forget(self, source: EncoderRing, frames: Tensor) -> EncoderRing:
        """Drop each stream's oldest ``frames`` (S,) frames, all that it has if it has fewer."""
        return EncoderRing(source.front, source.frames, (source.held - frames.to(source.held)).clamp(min=0))

    def source_words(self, source: EncoderRing) -> None:
        """There is no CTC head."""

    def encode(self, source: EncoderRing, slot: int) -> tuple[Any, None, int]:
        from transformers.models.moonshine_streaming.modeling_moonshine_streaming import MoonshineStreamingEncoderModelOutput

        held = int(source.held[slot])
        frames = source.frames[slot : slot + 1, self.most_frames - held :]
        return MoonshineStreamingEncoderModelOutput(last_hidden_state=frames), None, held

    def prompt(self, language: str | None, encoded: Any) -> list[int]:
        return [self._begin]
