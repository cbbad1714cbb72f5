"""A recogniser under one latency: features, encoder and search in series, as the runtime wants them."""

from __future__ import annotations

import torch
from torch import Tensor

from riverrun.streaming import Rechunk, Series, States
from riverrun.streaming.endpoint import EndpointConfig, EndpointDetector

from .attention import Context, at
from .models import Recogniser
from .reader import Heard, LabelReader
from .search import BeamSearch, CtcBeam, CtcGreedy, Hypotheses, Search, TransducerBeam, TransducerGreedy
from .tokenizer import Tokenizer
from .words import LabelDelay


def make_search(network: Recogniser, search: str, beam: int, head: str | None = None, never_settle: bool = False) -> Search:
    """A search over ``network``'s encoder frames.

    Args:
        network: the model.
        search: "greedy" or "beam".
        beam: hypotheses that a beam search keeps.
        head: "transducer" or "ctc"; the transducer if there is one and None is given.
        never_settle: keep a beam's alternatives to the end, however long: for short recordings.

    Raises:
        ValueError: unknown search, or a head that the model lacks.
    """
    head = head or ("ctc" if network.joiner is None else "transducer")
    if search not in ("greedy", "beam"):
        raise ValueError(f"unknown search {search!r}: choose greedy or beam")
    if beam < 1:
        raise ValueError(f"a beam of {beam} holds nothing: use at least 1")
    limits = {"settle": 1 << 30, "max_length": 512} if never_settle else {}
    if head == "transducer" and network.predictor is not None and network.joiner is not None:
        predictor, joiner = network.predictor, network.joiner
        return TransducerGreedy(predictor, joiner) if search == "greedy" else TransducerBeam(predictor, joiner, beam, **limits)
    if head == "ctc" and network.ctc is not None:
        return CtcGreedy(network.ctc) if search == "greedy" else CtcBeam(network.ctc, beam, **limits)
    raise ValueError(f"this model has no {head!r} head")


class StreamingRecognizer:
    """Implements `riverrun.streaming.Recognizer`.

    Args:
        network: the model, in evaluation mode.
        tokenizer: its labels.
        context: chunk and left context in encoder frames.
        search: see `make_search`.
        endpoints: rules that cut segments.
        delay: see `riverrun.speech.words.LabelDelay`.
    """

    def __init__(
        self, network: Recogniser, tokenizer: Tokenizer, context: Context, search: Search, endpoints: EndpointConfig, delay: LabelDelay
    ):
        if context.chunk is None:
            raise ValueError("a live recogniser needs a chunk length")
        features, encoder = network.features, network.encoder
        self.front = Series(
            features, network.normalise, Rechunk(context.chunk * encoder.stride, (network.config.features.bins,)), at(encoder, context)
        )
        self.search = search
        self.sample_rate = network.config.features.sample_rate
        self.chunk = context.chunk * encoder.stride * features.stride
        self.delay = features.lookahead
        self._like = network.normalise.mean
        self._tokenizer, self._delay = tokenizer, delay
        self._endpoints = EndpointDetector(endpoints, encoder.stride * features.stride / self.sample_rate)

    def init_state(self, slots: int) -> States:
        """State of ``slots`` streams that have heard nothing."""
        return States([self.front.init_state(slots, self._like), self.search.init_state(slots, self._like)])

    @torch.no_grad()
    def step(self, audio: Tensor, lengths: Tensor, state: States) -> tuple[Heard, States]:
        """Audio (S, C) and samples (S,) to labels."""
        front, search = state.parts
        x, frames, front = self.front.step(audio.to(self._like), lengths.to(self._like.device), front)
        labels, counts, search = self.search.step(x, frames, search)
        return Heard([(labels, counts)], self.search.best(search), self.search.decided(search)), States([front, search])

    @torch.no_grad()
    def flush(self, state: States) -> Heard:
        """Everything that waited: for lookahead, for a full chunk, for a decision of the search."""
        front, search = state.parts
        final = []
        if (tail := self.front.flush(front)) is not None:
            labels, counts, search = self.search.step(*tail, search)
            final.append((labels, counts))
        if (rest := self.search.flush(search)) is not None:
            final.append(rest)
        return Heard(final, None, search.heard)

    def reader(self) -> LabelReader:
        """A reader for a new stream."""
        return LabelReader(self._tokenizer, self._endpoints, self._delay)

    @torch.no_grad()
    def nbest(self, audio: Tensor, lengths: Tensor) -> Hypotheses:
        """The hypotheses that a beam search ends with, on whole recordings (B, N), (B,)."""
        if not isinstance(self.search, BeamSearch):
            raise ValueError("alternatives need a beam search")
        x, frames = self.front(audio.to(self._like), lengths.to(self._like.device))
        _, _, state = self.search.step(x, frames, self.search.init_state(len(x), x))
        return self.search.nbest(state)

    @torch.no_grad()
    def whole(self, audio: Tensor, lengths: Tensor) -> Heard:
        """Whole recordings (B, N), (B,) by ``forward``: what training computes, and what stepping must give."""
        x, frames = self.front(audio.to(self._like), lengths.to(self._like.device))
        state = self.search.init_state(len(x), x)
        labels, counts, state = self.search.step(x, frames, state)
        final = [(labels, counts)]
        if (rest := self.search.flush(state)) is not None:
            final.append(rest)
        return Heard(final, None, frames)
