"""What every search puts out, and how the host reads it."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from riverrun.streaming import StreamingModule


class Label(NamedTuple):
    """One decoded label: its id, the encoder frame (from the stream's start) that emitted it, and its log-probability there."""

    id: int
    frame: int
    score: float


class Labels(NamedTuple):
    """Labels of each frame, up to W of them; ``lengths`` that go with it count frames."""

    ids: Tensor  # (S, C, W) long, -1 for none
    scores: Tensor  # (S, C, W) log-probabilities, 0 for none


class Committed(NamedTuple):
    """Labels as a stream of their own; ``lengths`` that go with it count labels."""

    ids: Tensor  # (S, N) long
    frames: Tensor  # (S, N) long, encoder frames since the stream's start, never falling
    scores: Tensor  # (S, N) log-probabilities


class Search(StreamingModule):
    """A decoder over encoder frames (S, C, E). Every decision belongs to a frame, so no cutting of the input changes it.

    What a step puts out is final. ``best`` is what would follow if the stream ended here: final labels and ``best``
    together are the partial result. No state of a search holds an autograd graph.
    """

    left: int | None = None

    @abstractmethod
    def best(self, state: Any) -> tuple[Committed, Tensor]:
        """The likeliest labels that are not final yet: ``Committed`` (S, N) and lengths (S,)."""

    @abstractmethod
    def decided(self, state: Any) -> Tensor:
        """Frames (S,) since the stream's start whose labels are final: no later output belongs to an earlier frame."""


class GreedySearch(Search):
    """A search that never revises; its state counts the frames heard in a field ``heard`` (S,)."""

    def best(self, state: Any) -> tuple[Committed, Tensor]:
        none = state.heard[:, None][:, :0]
        return Committed(none, none, none.double()), state.heard * 0

    def decided(self, state: Any) -> Tensor:
        return state.heard


def possible(mask: Tensor) -> bool:
    """Whether any element may be True. Work for none can be left out on the CPU; elsewhere looking would make the host wait."""
    return mask.device.type != "cpu" or bool(mask.any())


def read_labels(output: Labels | Committed, lengths: Tensor, slot: int, offset: int = 0) -> list[Label]:
    """The labels of one slot, in order, from the output of a step, of ``flush`` or of ``best``.

    Args:
        output: what the search put out, on any device, or as arrays.
        lengths: (S,), as it came with the output.
        slot: which stream.
        offset: frames heard by the stream before this output; ``Labels`` count from there (``Committed`` carries its frames).
    """
    size = int(lengths[slot])
    if not size:
        return []
    ids, scores = output.ids[slot, :size], output.scores[slot, :size].tolist()
    if isinstance(output, Committed):
        return [Label(*label) for label in zip(ids.tolist(), output.frames[slot, :size].tolist(), scores, strict=True)]
    labels = ids.cpu().numpy() if isinstance(ids, Tensor) else ids  # most frames have none
    places = np.argwhere(labels >= 0).tolist()
    return [Label(int(labels[frame, place]), offset + frame, scores[frame][place]) for frame, place in places]
