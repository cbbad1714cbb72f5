"""Attention encoder-decoders of transformers: the search, and the attention of what it found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from riverrun.streaming.attention_model import continuation_rows
from riverrun.streaming.policies import Hypothesis

from ..search.attention_beam import AttentionBeamConfig
from .alignment import mean_of_heads
from .errors import HuggingFaceError
from .parts import Parts, Settings, decoder_config
from .search import CachedDecoder, continue_text
from .tokens import Tokens

#: Most tokens of a continuation for each second of source, and beyond: a decoder that repeats itself is stopped there.
TOKENS_PER_SECOND, SPARE_TOKENS = 10.0, 12


class Writer(ABC):
    """The writing half of an `riverrun.streaming.attention_model.AttentionModel` over a network of transformers.

    Streams are written one after another, so that what one says depends on no other.

    Attributes:
        attends: True.
        policy_defaults: by policy, options that suit the model better than the policy's own defaults.

    Args:
        parts: network, tokenizer and the rest, loaded.
        settings: how to use them.

    Raises:
        HuggingFaceError: the network's attention is not eager, so that it would not tell where it looks, or it lacks the layer.
    """

    attends = True
    policy_defaults: dict[str, dict[str, Any]] = {}
    frame_ms: float
    languages: tuple[str, ...]

    def __init__(self, parts: Parts, settings: Settings):
        if (runs := parts.network.config._attn_implementation) != "eager":
            raise HuggingFaceError(
                f'{parts.name}: its attention runs as "{runs}", which keeps no weights for policies to see: '
                'load it with attn_implementation="eager"'
            )
        self.name, self.network, self.settings = parts.name, parts.network, settings
        self.device: torch.device = parts.network.device
        if settings.layer is not None and not 1 <= settings.layer <= self._layers():
            raise HuggingFaceError(f"{self.name} has no decoder layer {settings.layer}: choose one of 1 to {self._layers()}")
        self.ends = self._ends(parts)
        self.tokens = Tokens(parts.tokenizer, self._outputs(), self.ends)
        also = torch.zeros(self._outputs(), dtype=torch.bool)
        also[[*self._suppressed(parts), *self.ends[1:]]] = True
        self._forbidden = (self.tokens.forbidden | also).to(self.device)
        self._lengthens = self.tokens.lengthens.to(self.device)

    def _ends(self, parts: Parts) -> list[int]:
        """Tokens that end a text; the first stands for all."""
        ends = parts.network.generation_config.eos_token_id
        ends = decoder_config(parts.network).eos_token_id if ends is None else ends
        return list(ends) if isinstance(ends, list | tuple) else [ends]

    def _layers(self) -> int:
        """Layers of the decoder."""
        config = decoder_config(self.network)
        layers: int = getattr(config, "decoder_layers", None) or config.num_hidden_layers
        return layers

    def _outputs(self) -> int:
        """Labels that the network scores."""
        size: int = decoder_config(self.network).vocab_size
        return size

    def _suppressed(self, parts: Parts) -> list[int]:
        """Tokens that the checkpoint says are never to be written."""
        return list(parts.network.generation_config.suppress_tokens or ())

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of tokens."""
        return self.tokens.decode(tokens)

    def starts_word(self, token: int) -> bool:
        """Whether a token begins a word."""
        return self.tokens.starts_word(token)

    @torch.no_grad()
    def generate(self, source: Any, slots: Sequence[int], prefixes: Sequence[Sequence[int]], language: str | None) -> list[Hypothesis]:
        """The likeliest continuation for each of ``slots``; see `riverrun.streaming.attention_model.AttentionModel`."""
        return [self._continue(source, slot, list(prefix), language) for slot, prefix in zip(slots, prefixes, strict=True)]

    @abstractmethod
    def _continue(self, source: Any, slot: int, prefix: list[int], language: str | None) -> Hypothesis:
        """The likeliest continuation of ``prefix`` for one stream."""

    def _search(self, decoder: CachedDecoder, written: list[int], frames: int, room: int, first: bool) -> tuple[list[int], bool]:
        """New tokens, and whether the text ends after them.

        Args:
            decoder: the network over its source.
            written: all labels before.
            frames: of the source.
            room: labels that the network's positions leave.
            first: whether text stands before, which must not be lengthened.
        """
        longest = min(SPARE_TOKENS + int(frames * self.frame_ms * TOKENS_PER_SECOND / 1000), room)
        config = AttentionBeamConfig(self.settings.beam)
        barred = self._lengthens if first else None
        found = continue_text(decoder, written, longest, config, self.ends[0], self._forbidden, barred, self.device)
        return list(found.labels), found.ended

    def _merge_ends(self, scores: Tensor) -> Tensor:
        """Scores (…, labels) in which the first end stands for all."""
        if len(self.ends) > 1:
            scores = scores.clone()
            scores[..., self.ends[0]] = scores[..., self.ends].logsumexp(-1)
        return scores

    def _hypothesis(self, new: list[int], ended: bool, rows: Tensor, scores: Tensor) -> Hypothesis:
        """A hypothesis from attention (new, frames) and scores (new, labels) of the queries that predict the new tokens."""
        logs = scores.float().log_softmax(-1)[torch.arange(len(new)), new].tolist() if new else []
        starts = tuple(self.starts_word(token) for token in new)
        return Hypothesis(tuple(new), starts, rows.float().cpu(), ended, tuple(logs))


class EncoderDecoder(Writer):
    """A writer by a network with cross-attention.

    Attention comes from one teacher-forced pass over the continuation that the search chose, never from the search.
    """

    def __init__(self, parts: Parts, settings: Settings):
        super().__init__(parts, settings)
        self.layer = settings.layer or max(round(self._layers() * 2 / 3), 1)  # the 4th of 6, as in the papers

    @abstractmethod
    def encode(self, source: Any, slot: int) -> tuple[Any, Tensor | None, int]:
        """Encoder outputs of one stream, the mask that the decoder is called with, and the frames that are source."""

    @abstractmethod
    def prompt(self, language: str | None, encoded: Any) -> list[int]:
        """Decoder inputs before the text: begin of sentence, language and task tags."""

    def positions(self) -> int:
        """Labels that the decoder can read."""
        config = decoder_config(self.network)
        limit: int = getattr(config, "max_target_positions", None) or config.max_position_embeddings
        return limit

    def align(self, attention: Sequence[Tensor]) -> Tensor:
        """Cross-attention of each layer (heads, queries, frames) -> (queries, frames), as policies see it."""
        return mean_of_heads(attention[self.layer - 1])

    def _continue(self, source: Any, slot: int, prefix: list[int], language: str | None) -> Hypothesis:
        encoded, mask, frames = self.encode(source, slot)
        prompt = self.prompt(language, encoded)
        room = self.positions() - len(prompt)
        given = [*prompt, *prefix[max(len(prefix) - room // 2, 0) :]]
        decoder = CachedDecoder(lambda labels, cache: self._run(encoded, mask, labels, cache))
        new, ended = self._search(decoder, given, frames, self.positions() - len(given), bool(prefix))
        out = self._call(encoded, mask, torch.tensor([[*given, *new]], device=self.device), output_attentions=True, use_cache=False)
        rows = self.align([layer[0, ..., :frames].float() for layer in self._attention(out)])
        return self._hypothesis(
            new, ended, continuation_rows(rows, len(given), len(new)), continuation_rows(out.logits[0], len(given), len(new))
        )

    def _attention(self, out: Any) -> Sequence[Tensor]:
        """The cross-attention of a pass.

        Raises:
            HuggingFaceError: it has none.
        """
        attention = out.cross_attentions
        if not attention or any(layer is None for layer in attention):
            raise HuggingFaceError(
                f"{self.name} returned no cross-attention, without which alignatt, edatt and streamatt are blind: "
                'its attention must run as "eager" ("sdpa" keeps none)'
            )
        return list(attention)

    def _run(self, encoded: Any, mask: Tensor | None, labels: Tensor, cache: Any) -> tuple[Tensor, Any]:
        out = self._call(_rows(encoded, len(labels)), mask, labels, cache=cache, use_cache=True)
        return self._merge_ends(out.logits), out.cache

    def _call(self, encoded: Any, mask: Tensor | None, labels: Tensor, **options: Any) -> Any:
        """The network over encoder outputs; they are copied, since some decoders add positions to them in place."""
        if mask is not None:
            mask = mask.expand(len(labels), -1)
        return self.network(encoder_outputs=_copied(encoded), attention_mask=mask, decoder_input_ids=labels, **options)


def _rows(encoded: Any, rows: int) -> Any:
    """Encoder outputs of one stream for so many hypotheses."""
    if rows == 1:
        return encoded
    return type(encoded)(**{name: value.expand(rows, *value.shape[1:]) for name, value in encoded.items()})


def _copied(encoded: Any) -> Any:
    return type(encoded)(**{name: value.clone() if name == "last_hidden_state" else value for name, value in encoded.items()})
