"""transformers' decoders under riverrun's own beam search."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from riverrun.streaming import Nothing

from ..decoders.transformer import DecoderLayerState, DecoderState
from ..search.attention_beam import AttentionBeamConfig, Continuation, continue_texts


class _Past:
    """Keys and values of a text's hypotheses, one a row: what the search moves about."""

    def __init__(self) -> None:
        self.cache: Any = None
        self.rows = 1

    def gather(self, slots: Tensor) -> _Past:
        """The chosen rows. The cache itself changes, since the search never looks back."""
        if slots.tolist() != list(range(self.rows)):
            self.cache.batch_select_indices(slots)
            self.rows = len(slots)
        return self


class CachedDecoder:
    """Looks to the search as a decoder of our own; for one text at a time.

    Args:
        run: next labels (rows, n) and the cache of all labels before, or None -> scores (rows, n, labels) and the new cache.
    """

    def __init__(self, run: Callable[[Tensor, Any], tuple[Tensor, Any]]):
        self._run = run
        self._past = _Past()

    @property
    def cache(self) -> Any:
        """Keys and values of the hypotheses that were alive last, one a row; None before the first step."""
        return self._past.cache

    def init_state(self, source: Tensor, frames: Tensor) -> DecoderState:
        """A text that has not begun."""
        return DecoderState([DecoderLayerState(self._past, Nothing(), Nothing())])  # type: ignore[arg-type]

    def step(self, labels: Tensor, lengths: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """Labels (rows, n) -> scores (rows, n, labels) of the ones that follow each."""
        scores, self._past.cache = self._run(labels, self._past.cache)
        return scores, state


def continue_text(
    decoder: CachedDecoder,
    written: Sequence[int],
    longest: int,
    config: AttentionBeamConfig,
    end: int,
    forbidden: Tensor,
    forbidden_first: Tensor | None,
    device: torch.device,
) -> Continuation:
    """The likeliest continuation of one text; arguments as of `riverrun.speech.search.attention_beam.continue_texts`."""
    nothing = torch.zeros(1, 1, 1, device=device)
    first = None if forbidden_first is None else forbidden_first[None]
    frames = torch.ones(1, dtype=torch.long, device=device)
    (found,) = continue_texts(decoder, nothing, frames, [list(written)], [longest], config, end, forbidden, first)  # type: ignore[arg-type]
    return found
