"""MoonshineStreaming's encoder as a `StreamingModule`: no second of audio is ever encoded twice.

transformers runs this encoder on whole recordings only. Its parts see bounded windows and know no absolute position, so that it streams
exactly: frames of 5 ms, two causal convolutions of stride 2, and layers whose attention sees a few frames back and fewer ahead.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from riverrun.streaming import Causal, Example, Frames, Nothing, PerFrame, Rechunk, Series, State, StreamingModule, last_frames, within


def streaming_encoder(encoder: Any) -> Series:
    """The parts of a ``MoonshineStreamingEncoder`` in series, with its weights: samples (S, C) in [-1, 1] -> frames (S, C', dim) of 20 ms.

    Equal to the encoder on whole recordings of whole 5 ms frames, given with a mask: without one it attends to everything.
    """
    embedder = encoder.embedder
    layers = [WindowLayer(layer, *window) for layer, window in zip(encoder.layers, encoder.config.sliding_windows, strict=True)]
    front = SampleFrames(embedder), StridedConvolution(embedder.conv1, F.silu), StridedConvolution(embedder.conv2, None)
    unit = front[0].stride * front[1].stride * front[2].stride
    return Series(Rechunk(unit, ()), *front, *layers, Norm(encoder.final_norm))


class SampleFrames(Causal):
    """Samples in frames of 5 ms, each normalised by itself, compressed and projected. An unfinished frame at the end is dropped."""

    def __init__(self, embedder: Any):
        super().__init__()
        self.normalise, self.compress, self.project = embedder.cmvn, embedder.comp, embedder.linear
        self.stride = self.unit = embedder.frame_len

    @classmethod
    def examples(cls) -> Iterable[Example]:
        yield Example(cls(_tiny().embedder), (), aligned=False)

    def init_state(self, slots: int, like: Tensor) -> Nothing:
        return Nothing()

    def step(self, x: Tensor, lengths: Tensor, state: Nothing) -> tuple[Tensor, Tensor, Nothing]:
        frames = x.shape[1] // self.stride
        whole = x[:, : frames * self.stride].reshape(len(x), frames, self.stride)
        return F.silu(self.project(self.compress(self.normalise(whole)))), lengths // self.stride, state


class StridedConvolution(Causal):
    """A causal convolution of stride 2; output t ends with input 2t."""

    stride = unit = 2

    def __init__(self, convolution: nn.Conv1d, activation: Any):
        super().__init__()
        self.weight, self.bias, self.activation = convolution.weight, convolution.bias, activation
        self.left = self._past = convolution.kernel_size[0] - 1

    @classmethod
    def examples(cls) -> Iterable[Example]:
        yield Example(cls(nn.Conv1d(3, 4, 5, 2), F.silu), (3,), tight=False)  # of the last two inputs it sees one

    def init_state(self, slots: int, like: Tensor) -> Frames:
        return Frames(like.new_zeros(slots, self._past, self.weight.shape[1]))

    def step(self, x: Tensor, lengths: Tensor, state: Frames) -> tuple[Tensor, Tensor, Frames]:
        both = torch.cat([state.frames, x], 1).transpose(1, 2)
        y = F.conv1d(both, self.weight, self.bias, self.stride).transpose(1, 2) if x.shape[1] else x.new_zeros(len(x), 0, len(self.weight))
        y = self.activation(y) if self.activation else y
        return y, (lengths + 1) // self.stride, Frames(last_frames(state.frames, x, lengths))


@dataclass
class Window(State):
    """The newest input frames of a layer, at the right end of ``frames``."""

    frames: Tensor  # (slots, left + lookahead, dim)
    count: Tensor  # (slots,)


class WindowLayer(StreamingModule):
    """A Transformer layer that sees ``back`` - 1 frames before each frame and ``ahead`` - 1 behind it.

    Attention to a window of inputs, which are the state: their keys and values are computed again in each step, a few frames' worth.
    """

    def __init__(self, layer: Any, back: int, ahead: int):
        super().__init__()
        self.layer = layer
        self.left = self._back = max(back - 1, 0)
        self.lookahead = max(ahead - 1, 0)

    @classmethod
    def examples(cls) -> Iterable[Example]:
        encoder = _tiny()
        for back, ahead in ((4, 3), (3, 0)):
            yield Example(cls(encoder.layers[0], back, ahead), (encoder.config.hidden_size,))

    def init_state(self, slots: int, like: Tensor) -> Window:
        dim = self.layer.hidden_size
        return Window(like.new_zeros(slots, self._back + self.lookahead, dim), torch.zeros(slots, dtype=torch.long, device=like.device))

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        places = torch.arange(x.shape[1], device=x.device).expand(len(x), -1)
        return self._attend(x, places, within(lengths, x.shape[1])), lengths

    def step(self, x: Tensor, lengths: Tensor, state: Window) -> tuple[Tensor, Tensor, Window]:
        held, size = state.count, state.frames.shape[1]
        after = Window(last_frames(state.frames, x, lengths), (held + lengths).clamp(max=size))
        ready = (held + lengths - self.lookahead).clamp(min=0) - (held - self.lookahead).clamp(min=0)
        return self._behind(torch.cat([state.frames, x], 1), held, lengths, x.shape[1]), ready, after

    def flush(self, state: Window) -> tuple[Tensor, Tensor]:
        zero = torch.zeros_like(state.count)
        return self._behind(state.frames, state.count, zero, self.lookahead), state.count.clamp(max=self.lookahead)

    def _behind(self, both: Tensor, held: Tensor, new: Tensor, size: int) -> Tensor:
        """The ``size`` outputs that have waited longest, of inputs ``both``: of each slot, ``held`` old ones and ``new`` ones behind."""
        start = self._back + self.lookahead  # where new frames begin
        places = (start - held.clamp(max=self.lookahead))[:, None] + torch.arange(size, device=both.device)
        index = torch.arange(both.shape[1], device=both.device)
        known = (index >= (start - held)[:, None]) & (index < (start + new)[:, None])
        return self._attend(both, places.clamp(max=max(both.shape[1] - 1, 0)), known)

    def _attend(self, x: Tensor, places: Tensor, known: Tensor) -> Tensor:
        """The layer's outputs at ``places`` (S, Q) of inputs (S, K, dim), of which ``known`` (S, K) are real."""
        layer, attention = self.layer, self.layer.self_attn
        normed = layer.input_layernorm(x)
        here = places[..., None].expand(-1, -1, x.shape[2])
        distance = places[:, :, None] - torch.arange(x.shape[1], device=x.device)
        seen = known[:, None] & (distance <= self._back) & (distance >= -self.lookahead)
        seen = seen | ~seen.any(2, keepdim=True)  # places without a frame: anything finite
        query, key, value = (
            projection(part).unflatten(2, (-1, attention.head_dim)).transpose(1, 2)
            for projection, part in ((attention.q_proj, normed.gather(1, here)), (attention.k_proj, normed), (attention.v_proj, normed))
        )
        heard = F.scaled_dot_product_attention(query, key, value, seen[:, None], scale=attention.scaling, enable_gqa=True)
        y = x.gather(1, here) + attention.o_proj(heard.transpose(1, 2).flatten(2))
        return y + layer.mlp(layer.post_attention_layernorm(y))


class Norm(PerFrame):
    """The encoder's last normalisation."""

    def __init__(self, norm: nn.Module):
        super().__init__()
        self.norm = norm

    @classmethod
    def examples(cls) -> Iterable[Example]:
        yield Example(cls(nn.LayerNorm(3)), (3,))

    def map(self, x: Tensor) -> Tensor:
        return self.norm(x)


def _tiny() -> Any:
    """A tiny encoder of transformers, for examples."""
    from transformers.models.moonshine_streaming.configuration_moonshine_streaming import MoonshineStreamingEncoderConfig
    from transformers.models.moonshine_streaming.modeling_moonshine_streaming import MoonshineStreamingEncoder

    config = MoonshineStreamingEncoderConfig(
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        sliding_windows=[[4, 3]],
        sample_rate=1000,
        frame_ms=4.0,
    )
    return MoonshineStreamingEncoder(config)
