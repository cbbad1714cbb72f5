"""A loaded translator as users meet it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
import torch

from riverrun.streaming.pipeline import as_float

from .attention import Context
from .bundle import Latency, TranslatorBundle
from .translation import SearchConfig, StreamingTranslator


class TranslationModel:
    """A translator's bundle ready to hear.

    Attributes:
        bundle: what was loaded.
        card: the model card, Markdown.
    """

    def __init__(self, bundle: TranslatorBundle):
        self.bundle, self.card = bundle, bundle.card
        self._translators: dict[tuple[Any, ...], StreamingTranslator] = {}

    @property
    def info(self) -> dict[str, Any]:
        """Facts about the model: name, languages on both sides, licence, parameters, latencies, bytes of state per stream."""
        config = self.bundle.config
        return {
            "name": config.name,
            "kind": config.kind,
            "description": config.description,
            "languages": list(config.languages),
            "target_languages": list(config.model.languages),
            "licence": config.licence,
            "sample_rate": config.model.features.sample_rate,
            "vocabulary": config.model.vocabulary,
            "parameters": sum(p.numel() for p in self.bundle.network.parameters()),
            "latencies_ms": list(config.streaming.latencies_ms),
            "default_latency_ms": config.streaming.default_ms,
            "bytes_per_stream": self.attention_model().init_source(1).bytes_per_stream,
            "folder": str(self.bundle.folder),
        }

    def context(self, latency_ms: Latency = None) -> Context:
        """Attention context for a latency: a chunk length in ms, "full", or None for the bundle's default.

        Raises:
            ValueError: no positive whole number of encoder frames.
        """
        return self.bundle.config.streaming.context(latency_ms, self._frame_ms)

    @property
    def _frame_ms(self) -> float:
        network = self.bundle.network
        return network.encoder.stride * network.features.stride * 1000 / network.config.features.sample_rate

    def attention_model(
        self, latency_ms: Latency = None, search: SearchConfig | None = None, layer: int | None = None
    ) -> StreamingTranslator:
        """The model under one latency, for any number of streams and any policy; the weights are shared.

        Args:
            latency_ms: see `context`.
            search: how continuations are searched.
            layer: decoder layer, counted from 1, whose attention policies see; None for the model's own choice.

        Raises:
            ValueError: no such latency or layer.
        """
        key = (self.context(latency_ms), search or SearchConfig(), layer)
        if key not in self._translators:
            most = int(self.bundle.config.streaming.full_ms / self._frame_ms)
            bundle = self.bundle
            self._translators[key] = StreamingTranslator(bundle.network, bundle.tokenizer, bundle.source, key[0], most, key[1], layer)
        return self._translators[key]

    def translate(
        self,
        recordings: Sequence[npt.NDArray[Any]],
        *,
        language: str | None = None,
        latency_ms: Latency = "full",
        search: SearchConfig | None = None,
    ) -> list[str]:
        """Translate recordings offline: each is heard to its end, then written.

        Args:
            recordings: mono samples at the model's rate, float in [-1, 1] or int16, each of at most the bundle's ``full_ms``.
            language: target language; None for the model's default.
            latency_ms: what the encoder may see.
            search: how the translation is searched; by default a beam of 4.

        Raises:
            ValueError: a recording is too long or no audio, or the model does not write the language.
        """
        model = self.attention_model(latency_ms, search or SearchConfig(beam=4))
        most = self.bundle.config.streaming.full_ms * model.sample_rate // 1000
        audio = [torch.from_numpy(as_float(recording)) for recording in recordings]
        if too_long := [len(a) for a in audio if len(a) > most]:
            seconds = [n / model.sample_rate for n in (most, too_long[0])]
            raise ValueError(f"offline translation takes at most {seconds[0]:g} s at a time; this recording has {seconds[1]:.0f} s")
        if not audio:
            return []
        lengths = torch.tensor([len(a) for a in audio])
        source = model.hear(torch.nn.utils.rnn.pad_sequence(audio, batch_first=True), lengths, model.init_source(len(audio)))
        slots = range(len(audio))
        found = model.generate(model.finish(source), slots, [()] * len(audio), language)
        return [model.decode(hypothesis.tokens) for hypothesis in found]


__all__ = ["TranslationModel"]
