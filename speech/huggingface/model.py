"""Checkpoints of transformers as users meet them: `load`, then the same methods as a bundle's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch

from riverrun.streaming import Stream
from riverrun.streaming.policies import make_history, parse_policy
from riverrun.streaming.translator import Translator

from ..audio import Resampler
from ..bundle import Latency
from ..transcriber import Transcriber
from ..translation import SearchConfig
from .errors import HuggingFaceError
from .folder import configuration, find
from .parts import DECIDE_MS, Parts, Settings


@dataclass(frozen=True)
class Family:
    """An architecture that has an adapter.

    Attributes:
        title: for messages.
        network: its class in transformers.
        adapter: module and class here.
        processor: whether prompts come from a processor.
    """

    title: str
    network: str
    adapter: str
    processor: bool = False


#: By ``model_type`` in ``config.json``.
FAMILIES: Mapping[str, Family] = {
    "whisper": Family("Whisper", "WhisperForConditionalGeneration", "whisper:Whisper"),
    "speech_to_text": Family("Speech2Text", "Speech2TextForConditionalGeneration", "speech_to_text:Speech2Text"),
    "seamless_m4t": Family("SeamlessM4T", "SeamlessM4TForSpeechToText", "seamless:SeamlessM4T"),
    "seamless_m4t_v2": Family("SeamlessM4T v2", "SeamlessM4Tv2ForSpeechToText", "seamless:SeamlessM4T"),
    "canary": Family("Canary", "CanaryForConditionalGeneration", "canary:Canary", processor=True),
    "moonshine_streaming": Family("MoonshineStreaming", "MoonshineStreamingForConditionalGeneration", "moonshine:MoonshineStreaming"),
    "qwen2_audio": Family("Qwen2-Audio", "Qwen2AudioForConditionalGeneration", "qwen2_audio:Qwen2Audio", processor=True),
    "granite_speech": Family("Granite Speech", "GraniteSpeechForConditionalGeneration", "granite_speech:GraniteSpeech", processor=True),
}


class HuggingFaceModel(Transcriber):
    """A checkpoint ready to hear: to translate, and if it can, to transcribe.

    Attributes:
        card: its model card, Markdown; empty if there is none.
        parts: what was loaded.
    """

    def __init__(self, parts: Parts, family: Family):
        self.parts, self.family = parts, family
        self._adapters: dict[Settings, Any] = {}

    @property
    def card(self) -> str:
        path = self.parts.folder / "README.md"
        return path.read_text(encoding="utf-8") if path.is_file() else ""

    @property
    def info(self) -> dict[str, Any]:
        """Facts about the model: name, architecture, target languages, parameters, bytes of state per stream."""
        model = self.attention_model()
        return {
            "name": self.parts.name,
            "kind": "translator",
            "description": f"{self.family.title}, by transformers",
            "target_languages": list(model.languages),
            "sample_rate": model.sample_rate,
            "parameters": sum(p.numel() for p in self.parts.network.parameters()),
            "bytes_per_stream": model.init_source(1).bytes_per_stream,
            "folder": str(self.parts.folder),
        }

    def attention_model(
        self,
        latency_ms: Latency = None,
        search: SearchConfig | None = None,
        layer: int | None = None,
        *,
        task: Literal["translate", "transcribe"] = "translate",
        source: str | None = None,
        target: str | None = None,
        standardised: bool = True,
    ) -> Any:
        """The model for any number of streams and any policy: an `riverrun.streaming.attention_model.AttentionModel`.

        Args:
            latency_ms: source between two decisions at least; None for 500 ms, "full" for as much as the model holds.
            search: its beam counts; the limits of a continuation's length are the adapter's own.
            layer: see `riverrun.speech.huggingface.parts.Settings`, also for all others.
            task: likewise.
            source: likewise.
            target: likewise.
            standardised: likewise.

        Raises:
            HuggingFaceError: the model cannot be used so.
        """
        chunk_ms = DECIDE_MS if latency_ms is None else math.inf if latency_ms == "full" else float(latency_ms)
        beam = search.beam if search else 1
        settings = Settings(task, source, target, chunk_ms, beam=beam, layer=layer, standardised=standardised)
        if settings not in self._adapters:
            module, _, name = self.family.adapter.partition(":")
            self._adapters[settings] = getattr(import_module(f"{__package__}.{module}"), name)(self.parts, settings)
        return self._adapters[settings]

    def recognizer(self, latency_ms: Latency = None, search: str = "greedy", beam: int = 4, source: str | None = None) -> Translator:
        """The model as a recogniser: its words are written by AlignAtt, and sentences that end are forgotten.

        Args:
            latency_ms: see `attention_model`.
            search: "greedy" or "beam".
            beam: hypotheses of a beam search.
            source: the language that is spoken; None leaves it to the model.

        Raises:
            HuggingFaceError: the model cannot transcribe so.
        """
        config = SearchConfig(beam=beam if search == "beam" else 1)
        model = self.attention_model(latency_ms, config, task="transcribe", source=source)
        policy = parse_policy("alignatt", model.policy_defaults)
        return Translator(model, policy, make_history("sentence"))

    def stream(self, *, latency_ms: Latency = None, sample_rate: int = 16000, **options: Any) -> Stream:
        """A live stream that transcribes mono audio at ``sample_rate``; ``options`` are those of `recognizer`."""
        recognizer = self.recognizer(latency_ms, **options)
        return Stream(recognizer, None if sample_rate == recognizer.sample_rate else Resampler(sample_rate, recognizer.sample_rate))


def load(name: str, device: str | torch.device = "cpu") -> HuggingFaceModel:
    """Load a checkpoint: "owner/name" from the local cache (fetched the first time), or a folder.

    Weights are read from safetensors alone, no code of the checkpoint is run, and attention is eager. On a GPU the weights keep the dtype
    that they are stored in, on a CPU they are float32.

    Raises:
        HuggingFaceError: transformers is not installed, there is no such model, or it is of no supported architecture.
    """
    try:
        import transformers
    except ImportError:
        raise HuggingFaceError("models of Hugging Face need transformers: pip install 'riverrun[hf]'") from None
    folder = find(name)
    kind = configuration(name, folder)["model_type"]
    if kind not in FAMILIES:
        titles = ", ".join(family.title for family in FAMILIES.values())
        raise HuggingFaceError(f'hf:{name} is a "{kind}", which has no adapter: supported are {titles}')
    family, device = FAMILIES[kind], torch.device(device)
    strict: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    transformers.utils.logging.disable_progress_bar()
    try:
        network = getattr(transformers, family.network).from_pretrained(
            folder,
            use_safetensors=True,
            attn_implementation="eager",
            dtype="auto" if device.type == "cuda" else torch.float32,
            **strict,
        )
        features = transformers.AutoFeatureExtractor.from_pretrained(folder, **strict)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **strict)
        processor = transformers.AutoProcessor.from_pretrained(folder, **strict) if family.processor else None
    except Exception as error:  # what its readers make of broken files is of many kinds
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise HuggingFaceError(f"hf:{name} cannot be loaded: {first}") from None
    return HuggingFaceModel(Parts(name, Path(folder), network.eval().to(device), features, tokenizer, processor), family)
