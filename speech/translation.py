"""A translator under one latency: what `riverrun.streaming.attention_model` asks for, over our own network.

The encoder is a `StreamingModule`: every second of audio is encoded once, whatever came before it. Encoder frames wait in a bounded
ring; the decoder reads them afresh whenever it is asked to go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from riverrun.streaming import Rechunk, Series, State, States, last_frames, within
from riverrun.streaming.policies import Hypothesis

from .attention import Context, at
from .models.translator import BOUNDARY, Translator
from .search.attention_beam import AttentionBeamConfig, continue_texts
from .tokenizer import Tokenizer

#: Languages that are written without spaces between words: every token may begin one.
UNSPACED = frozenset({"zh", "ja", "th", "lo", "km", "my"})


@dataclass(frozen=True)
class SearchConfig:
    """How continuations are searched.

    Attributes:
        beam: hypotheses kept; 1 is greedy search.
        length_power: see `riverrun.speech.search.attention_beam`.
        labels_per_second: most labels that a continuation may have for each second of held source, beyond ``spare_labels``: a decoder
            that repeats itself is stopped there.
        spare_labels: see above.
    """

    beam: int = 1
    length_power: float = 1.0
    labels_per_second: float = 10.0
    spare_labels: int = 12

    def longest(self, seconds: float) -> int:
        """Most labels of a continuation over so much held source."""
        return self.spare_labels + int(seconds * self.labels_per_second)


@dataclass
class Source(State):
    """What a stream has heard: the state of features and encoder, and the newest encoder frames, oldest first, at the ring's right end."""

    front: States
    ring: Tensor  # (slots, most_frames, dim)
    held: Tensor  # (slots,) int64, real frames of the ring


class StreamingTranslator:
    """Implements `riverrun.streaming.attention_model.AttentionModel`.

    Attributes:
        policy_defaults: by policy, options that suit the model better than the policy's own defaults: AlignAtt keeps away from the frames
            of the newest chunk.

    Args:
        network: the model, in evaluation mode.
        tokenizer: its target labels.
        source: the labels of its CTC head; None counts no source words.
        context: chunk and left context in encoder frames.
        most_frames: encoder frames that a stream holds; older ones fall out.
        search: see `SearchConfig`.
        layer: decoder layer, counted from 1, whose attention is given; None for the one of the model's configuration.
    """

    def __init__(
        self,
        network: Translator,
        tokenizer: Tokenizer,
        source: Tokenizer | None,
        context: Context,
        most_frames: int,
        search: SearchConfig | None = None,
        layer: int | None = None,
    ):
        if context.chunk is None:
            raise ValueError("a live translator needs a chunk length")
        if most_frames < context.chunk:
            raise ValueError(f"most_frames must hold a chunk of {context.chunk} frames at least, not {most_frames}")
        config, encoder = network.config, network.encoder
        self.layer = config.attention_layer if layer is None else layer
        if not 1 <= self.layer <= config.decoder.layers:
            raise ValueError(f"this model has no decoder layer {self.layer}: choose one of 1 to {config.decoder.layers}")
        self.front = Series(
            network.features, network.normalise, Rechunk(context.chunk * encoder.stride, (config.features.bins,)), at(encoder, context)
        )
        self.sample_rate = config.features.sample_rate
        frame = encoder.stride * network.features.stride
        self.chunk, self.delay = context.chunk * frame, network.features.lookahead
        self.frame_ms = frame * 1000 / self.sample_rate
        self.most_frames, self.languages = most_frames, config.languages
        # the newest chunk's frames have not seen what follows them, as all others have
        self.policy_defaults = {policy: {"frames": context.chunk} for policy in ("alignatt", "streamatt")}
        self.search = search or SearchConfig()
        self._network, self._tokenizer = network, tokenizer
        self._like = network.normalise.mean
        self._spaced = not UNSPACED & set(self.languages)
        labels = range(len(tokenizer))
        device = self._like.device
        self._forbidden = torch.tensor([i == tokenizer.unknown != BOUNDARY for i in labels], device=device)
        # what is written stays: no letters that would lengthen its last word
        self._lengthens = torch.tensor(
            [not self.starts_word(i) and any(map(str.isalnum, tokenizer.surface(i))) for i in labels], device=device
        )
        self._source_starts = None
        if network.ctc is not None and source is not None:
            starts = [source.starts_word(i) for i in range(len(source))]
            self._source_starts = torch.tensor(starts, device=self._like.device)

    def init_source(self, slots: int) -> Source:
        """Sources of ``slots`` streams that have heard nothing."""
        ring = self._like.new_zeros(slots, self.most_frames, self._network.config.encoder.dim)
        held = torch.zeros(slots, dtype=torch.long, device=self._like.device)
        return Source(self.front.init_state(slots, self._like), ring, held)

    @torch.no_grad()
    def hear(self, audio: Tensor, lengths: Tensor, source: Source) -> Source:
        """Audio (S, C), samples (S,): the encoder takes in the chunks that they complete, each once."""
        x, frames, front = self.front.step(audio.to(self._like), lengths.to(self._like.device), source.front)
        return self._append(x, frames, Source(front, source.ring, source.held))

    @torch.no_grad()
    def finish(self, source: Source) -> Source:
        """Sources with the frames that waited for lookahead or a full chunk."""
        tail = self.front.flush(source.front)
        return source if tail is None else self._append(*tail, source)

    def _append(self, x: Tensor, frames: Tensor, source: Source) -> Source:
        held = (source.held + frames).clamp(max=self.most_frames)
        return Source(source.front, last_frames(source.ring, x, frames), held)

    def frames(self, source: Source) -> Tensor:
        """Encoder frames (S,) that each stream holds."""
        return source.held

    def forget(self, source: Source, frames: Tensor) -> Source:
        """Drop each stream's oldest ``frames`` (S,) frames, all that it has if it has fewer."""
        return Source(source.front, source.ring, (source.held - frames.to(source.held)).clamp(min=0))

    @torch.no_grad()
    def restart(self, source: Source, which: Tensor) -> Source:
        """Streams marked in ``which`` (S,) bool hear what comes as a recording of its own; the `delay` before it counts as silence."""
        which, delay = which.to(source.held.device), torch.tensor([self.delay], device=source.held.device)
        _, _, front = self.front.step(self._like.new_zeros(1, self.delay), delay, self.front.init_state(1, self._like))
        return Source(source.front.reset(which, front), source.ring, source.held.masked_fill(which, 0))

    @torch.no_grad()
    def source_words(self, source: Source) -> Tensor | None:
        """Words (S,) that begin in the CTC head's greedy labels of the held frames; None without such a head."""
        if self._source_starts is None or self._network.ctc is None:
            return None
        frames = self._held(source, torch.arange(source.slots, device=source.held.device))
        labels = self._network.ctc(frames).argmax(-1)
        before = torch.nn.functional.pad(labels[:, :-1], (1, 0))
        begins = self._source_starts[labels] & (labels != before) & within(source.held, frames.shape[1])
        return begins.sum(1)

    def _held(self, source: Source, slots: Tensor) -> Tensor:
        """The held frames of ``slots``, left-aligned: (n, T, dim) with T the most that any of them holds."""
        held = source.held[slots]
        index = self.most_frames - held[:, None] + torch.arange(int(held.max()) if len(held) else 0, device=held.device)
        ring = source.ring[slots]
        return ring.gather(1, index.clamp(max=self.most_frames - 1)[..., None].expand(-1, -1, ring.shape[2]))

    @torch.no_grad()
    def generate(self, source: Any, slots: Sequence[int], prefixes: Sequence[Sequence[int]], language: str | None) -> list[Hypothesis]:
        """The likeliest continuation for each of ``slots``, with the attention of one teacher-forced pass.

        A stream that holds no frame yet has nothing to say.

        Raises:
            ValueError: the model does not write ``language``.
        """
        begin = self._network.config.begin(language)
        counts = source.held.tolist()
        hypotheses = {s: Hypothesis((), (), torch.zeros(0, 0), True) for s in slots}
        heard = [(s, prefix) for s, prefix in zip(slots, prefixes, strict=True) if counts[s]]
        if heard:
            index = torch.tensor([s for s, _ in heard], device=source.held.device)
            written = torch.tensor([len(prefix) > 0 for _, prefix in heard], device=index.device)
            given = [[*begin, *prefix] for _, prefix in heard]
            found = self._generate(self._held(source, index), source.held[index], given, written[:, None] & self._lengthens)
            for (s, _), hypothesis in zip(heard, found, strict=True):
                hypotheses[s] = hypothesis
        return [hypotheses[s] for s in slots]

    def _generate(self, source: Tensor, frames: Tensor, given: list[list[int]], barred: Tensor) -> list[Hypothesis]:
        longest = [self.search.longest(n * self.frame_ms / 1000) for n in frames.tolist()]
        beam = AttentionBeamConfig(self.search.beam, self.search.length_power)
        found = continue_texts(self._network.decoder, source, frames, given, longest, beam, BOUNDARY, self._forbidden, barred)
        labels = [continuation.labels for continuation in found]
        return [
            Hypothesis(f.labels, tuple(map(self.starts_word, f.labels)), look, f.ended, scores)
            for f, (look, scores) in zip(found, self._force(source, frames, given, labels), strict=True)
        ]

    def _force(
        self, source: Tensor, frames: Tensor, given: list[list[int]], labels: list[tuple[int, ...]]
    ) -> list[tuple[Tensor, tuple[float, ...]]]:
        """One teacher-forced pass over the chosen continuations: attention (labels, held frames) on the CPU, and log-probabilities."""
        forced = [torch.tensor([*g, *new]) for g, new in zip(given, labels, strict=True)]
        lengths = torch.tensor([len(f) for f in forced], device=source.device)
        padded = torch.nn.utils.rnn.pad_sequence(forced, batch_first=True).to(source.device)
        scores, looks = self._network.decoder.watched(padded, lengths, source, frames)
        following = padded[:, 1:].clamp(max=scores.shape[2] - 1)[..., None]  # a language tag follows, but nobody asks for its score
        likely = scores[:, :-1].float().log_softmax(-1).gather(2, following)[..., 0].tolist()
        looks = looks[:, self.layer - 1].mean(1).cpu()
        answers = []
        for row, (g, new, n) in enumerate(zip(given, labels, frames.tolist(), strict=True)):
            first = len(g) - 1  # row i answers for label i + 1: the first new label was looked for by the last one that was given
            answers.append((looks[row, first : first + len(new), :n], tuple(likely[row][first : first + len(new)])))
        return answers

    def _goes_on(self, label: int) -> bool:
        """Whether a label lengthens the word before it."""
        return not self.starts_word(label) and any(map(str.isalnum, self._tokenizer.surface(label)))

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of target labels."""
        return self._tokenizer.decode(tokens)

    def starts_word(self, token: int) -> bool:
        """Whether a target label begins a word."""
        return not self._spaced or self._tokenizer.starts_word(token)


__all__ = ["SearchConfig", "Source", "StreamingTranslator", "UNSPACED"]
