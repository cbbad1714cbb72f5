"""Speech language models: one decoder over a prompt with audio in it, whose self-attention tells where it looks.

Decoder-only alignment (DOA): of the self-attention of the target's queries, the columns of the audio, averaged over heads and layers and
standardised over the queries; then AlignAtt as on cross-attention.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from riverrun.streaming.attention_model import continuation_rows
from riverrun.streaming.policies import Hypothesis

from .alignment import standardise
from .encoder_decoder import Writer
from .errors import HuggingFaceError
from .languages import NAMES
from .parts import Parts, Settings, decoder_config, tensors
from .ring import RingSource
from .search import CachedDecoder


class SpeechLanguageModel(RingSource, Writer):
    """A language model that hears: it is asked in words to translate what it holds, and is given what is written as its own answer.

    The audio is encoded anew at each decision. The self-attention of a pass over everything would take layers · heads · length²; here the
    pass goes on from the cached keys of the prompt, and only the queries behind the audio tell where they look.
    """

    policy_defaults = {"alignatt": {"frames": 8}, "streamatt": {"frames": 8}}
    frame_ms: float
    asks_for: tuple[str, ...]  #: languages that the model was trained to write

    def __init__(self, parts: Parts, settings: Settings):
        super().__init__(parts, settings)
        self._processor = parts.processor
        self.sample_rate = parts.features.sampling_rate
        self.most_frames = int(settings.seconds * 1000 / self.frame_ms)
        self.chunk = settings.chunk(self.frame_ms, self.sample_rate, self.most_frames)
        self._audio_token = parts.network.config.audio_token_id
        if settings.source is not None and settings.source not in NAMES:
            raise HuggingFaceError(f"{parts.name} cannot be told that {settings.source!r} is spoken: it knows {', '.join(NAMES)}")
        self.languages = self.asks_for if settings.task == "translate" else ()

    @abstractmethod
    def question(self, instruction: str) -> str:
        """The prompt for one recording, with the audio's placeholder, up to where the answer begins."""

    def ask(self, question: str, audio: Tensor) -> Any:
        """The network's inputs for a question about samples (n,)."""
        return self._processor(text=question, audio=audio.numpy(), return_tensors="pt", sampling_rate=self.sample_rate)

    def instruction(self, language: str | None) -> str:
        """What the model is asked for."""
        spoken = f"{NAMES[self.settings.source]} speech" if self.settings.source else "speech"
        if language is None or language == self.settings.source:
            return f"Transcribe the {spoken}."
        return f"Translate the {spoken} into {NAMES[language]}."

    def _continue(self, source: Any, slot: int, prefix: list[int], language: str | None) -> Hypothesis:
        audio = self.audio(source, slot)
        question = self.question(self.instruction(language))
        asked = self.ask(question, audio)
        inputs = tensors(asked, self.device, self.network.dtype)
        prompt: list[int] = inputs.pop("input_ids")[0].tolist()
        mask = inputs.pop("attention_mask", None)
        if mask is not None and not bool(mask.all()):
            raise HuggingFaceError(f"{self.name}: its processor pads a single prompt, so that places in it cannot be told")
        frames = int(self.columns(torch.tensor(len(audio))))
        given = [*prompt, *prefix]
        decoder = CachedDecoder(lambda labels, cache: self._run(inputs, labels, cache))
        new, ended = self._search(decoder, given, frames, self._room() - len(given), bool(prefix))
        rows, scores = self._look(inputs, given, new, decoder.cache, frames)
        return self._hypothesis(new, ended, rows, scores)

    def _room(self) -> int:
        """Labels that the network can read."""
        limit: int = decoder_config(self.network).max_position_embeddings
        return limit

    def _look(self, inputs: dict[str, Tensor], given: list[int], new: list[int], cache: Any, frames: int) -> tuple[Tensor, Tensor]:
        """Attention (new, frames) and scores (new, labels) of the queries that predict the continuation, from one pass over it."""
        heard = [i for i, token in enumerate(given) if token == self._audio_token]
        behind = heard[-1] + 1
        if cache is None:
            _, cache = self._run(inputs, torch.tensor([given[:behind]], device=self.device), None)
        else:  # what the search has read, up to the audio's end
            cache.batch_select_indices(torch.zeros(1, dtype=torch.long, device=self.device))
            if (beyond := cache.get_seq_length() - behind) > 0:
                cache.crop(-beyond)
        labels = torch.tensor([[*given, *new][behind:]], device=self.device)
        out = self.network(input_ids=labels, cache=cache, use_cache=True, output_attentions=True)
        if not out.attentions or any(weights is None for weights in out.attentions):
            raise HuggingFaceError(f'{self.name} returned no self-attention: its attention must run as "eager" ("sdpa" keeps none)')
        layer = self.settings.layer
        layers = out.attentions if layer is None else out.attentions[layer - 1 : layer]
        mean = torch.stack([weights[0, :, :, heard[0] : heard[0] + frames].float().mean(0) for weights in layers]).mean(0)
        rows = standardise(mean) if self.settings.standardised else mean
        before = len(given) - behind
        return continuation_rows(rows, before, len(new)), continuation_rows(out.logits[0], before, len(new))

    def _run(self, inputs: dict[str, Tensor], labels: Tensor, cache: Any) -> tuple[Tensor, Any]:
        """Scores of the labels that follow each of ``labels`` (rows, n); the audio goes in with the first."""
        out = self.network(input_ids=labels, cache=cache, use_cache=True, **({} if cache is not None else inputs))
        return self._merge_ends(out.logits), out.cache
