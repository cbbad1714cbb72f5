"""A loaded model as users meet it: `load`, then `SpeechModel.transcribe` or `SpeechModel.stream`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from riverrun.streaming import Stream
from riverrun.streaming.endpoint import EndpointConfig
from riverrun.streaming.vad import SileroVad

from .attention import Context
from .audio import Resampler
from .bundle import Bundle, Latency, load_any
from .recognizer import StreamingRecognizer, make_search
from .transcriber import Source, Transcriber, blocks_of
from .translation_model import TranslationModel
from .words import LabelDelay


class Alternative(NamedTuple):
    """One of several texts of a recording, with its log-probability under the model."""

    text: str
    log_prob: float


class SpeechModel(Transcriber):
    """A bundle ready to hear.

    Attributes:
        bundle: what was loaded.
        card: the model card, Markdown.
    """

    def __init__(self, bundle: Bundle):
        self.bundle, self.card = bundle, bundle.card
        self._recognizers: dict[tuple[Any, ...], StreamingRecognizer] = {}

    @property
    def info(self) -> dict[str, Any]:
        """Facts about the model: name, languages, licence, parameters, latencies, bytes of state per stream."""
        config = self.bundle.config
        return {
            "name": config.name,
            "description": config.description,
            "languages": list(config.languages),
            "licence": config.licence,
            "sample_rate": config.model.features.sample_rate,
            "vocabulary": config.model.vocabulary,
            "parameters": sum(p.numel() for p in self.bundle.network.parameters()),
            "latencies_ms": list(config.streaming.latencies_ms),
            "default_latency_ms": config.streaming.default_ms,
            "bytes_per_stream": self.recognizer().init_state(1).bytes_per_stream,
            "folder": str(self.bundle.folder),
        }

    def context(self, latency_ms: Latency = None) -> Context:
        """Attention context for a latency: a chunk length in ms, "full", or None for the bundle's default.

        Raises:
            ValueError: no positive whole number of encoder frames.
        """
        network = self.bundle.network
        features = network.config.features
        frame_ms = network.encoder.stride * features.shift * 1000 / features.sample_rate
        return self.bundle.config.streaming.context(latency_ms, frame_ms)

    def recognizer(
        self,
        latency_ms: Latency = None,
        search: str = "greedy",
        beam: int = 4,
        head: str | None = None,
        endpoints: EndpointConfig | None = None,
    ) -> StreamingRecognizer:
        """The model under one latency and search, for any number of streams; the weights are shared.

        Args:
            latency_ms: see `context`.
            search: "greedy" or "beam".
            beam: hypotheses of a beam search.
            head: "transducer" or "ctc", if the model has both.
            endpoints: where segments end; by default after silence or about 20 s.
        """
        endpoints = endpoints or EndpointConfig()
        context = self.context(latency_ms)
        key = (context, search, beam, head, endpoints)
        if key not in self._recognizers:
            network, streaming = self.bundle.network, self.bundle.config.streaming
            delay = LabelDelay(streaming.word_start_delay_ms / 1000, streaming.word_end_delay_ms / 1000)
            self._recognizers[key] = StreamingRecognizer(
                network, self.bundle.tokenizer, context, make_search(network, search, beam, head), endpoints, delay
            )
        return self._recognizers[key]

    def stream(self, *, latency_ms: Latency = None, sample_rate: int = 16000, vad: SileroVad | None = None, **options: Any) -> Stream:
        """A live stream of mono audio at ``sample_rate``.

        Args:
            latency_ms: see `context`.
            sample_rate: of the audio, in Hz.
            vad: voice activity detection, for endpoints to go by; needs the extra ``vad``.
            options: those of `recognizer`.
        """
        recognizer = self.recognizer(latency_ms, **options)
        front = None if sample_rate == recognizer.sample_rate else Resampler(sample_rate, recognizer.sample_rate)
        return Stream(recognizer, front, vad)

    def nbest(self, source: Source, n: int = 5, beam: int = 8, head: str | None = None) -> list[Alternative]:
        """The likeliest texts of a recording of at most the bundle's ``full_ms``, best first, under full context.

        Args:
            source: as for `transcribe`.
            n: texts wanted; there may be fewer.
            beam: hypotheses that the search keeps, at least ``n``.
            head: "transducer" or "ctc", if the model has both.

        Raises:
            ValueError: the recording is longer, or the beam too small.
        """
        config, network, tokenizer = self.bundle.config.streaming, self.bundle.network, self.bundle.tokenizer
        if not 1 <= n <= beam:
            raise ValueError(f"a beam of {beam} cannot give {n} texts: use a beam of at least n, and n of at least 1")
        sample_rate = network.config.features.sample_rate
        with blocks_of(source, sample_rate) as blocks:
            audio = torch.from_numpy(np.concatenate([np.zeros(0, np.float32), *blocks]))
        if len(audio) > config.full_ms * sample_rate // 1000:
            raise ValueError(
                f"alternatives are for recordings of at most {config.full_ms // 1000} s; this one has {len(audio) / sample_rate:.0f} s"
            )
        search = make_search(network, "beam", beam, head, never_settle=True)
        recognizer = StreamingRecognizer(network, tokenizer, self.context("full"), search, EndpointConfig(), LabelDelay())
        found = recognizer.nbest(audio[None], torch.tensor([len(audio)]))
        texts = [tokenizer.decode(ids[:count].tolist()) for ids, count in zip(found.ids[0], found.lengths[0], strict=True)]
        scored = [Alternative(text, score) for text, score in zip(texts, found.log_probs[0].tolist(), strict=True) if score > -math.inf]
        return scored[:n]


def load(name: str | Path = "default", device: str | torch.device = "cpu") -> Any:
    """Load a model: "default", the name of a shipped bundle, a bundle's folder, or a checkpoint of Hugging Face as "hf:owner/name".

    Returns:
        A `SpeechModel` for a recogniser, a `TranslationModel` for a translator, a `HuggingFaceModel` for a checkpoint.

    Raises:
        BundleError: there is no such bundle, or it is broken; the message says what is wrong.
        HuggingFaceError: likewise for a checkpoint.
    """
    prefix, _, checkpoint = str(name).partition("hf:")
    if checkpoint and not prefix:
        from .huggingface import load as load_checkpoint

        return load_checkpoint(checkpoint, device)
    bundle = load_any(str(name), device)
    return SpeechModel(bundle) if isinstance(bundle, Bundle) else TranslationModel(bundle)
