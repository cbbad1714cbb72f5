"""What the runtime asks of a model: a network that steps over slots, and a reader that turns its output into events."""

from __future__ import annotations

from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
from torch import Tensor

from .events import Event
from .state import State


class Front(Protocol):
    """What stands between the caller's sample rate and the recogniser's."""

    def push(self, samples: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Resample a piece."""

    def finish(self) -> npt.NDArray[np.float32]:
        """What was waiting."""

    def to_bytes(self) -> bytes:
        """The front's state."""

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """A front that goes on where a saved one stopped."""


class Reader(Protocol):
    """One stream's host side: what the network decided, as text and events."""

    def read(self, output: Any, slot: int) -> list[Event]:
        """Events that follow from a step's output for the stream in ``slot``."""

    def finish(self, output: Any, slot: int) -> list[Event]:
        """Events that follow from the flush's output; the last segment becomes final."""

    def save(self) -> dict[str, Any]:
        """All that the reader remembers, as JSON."""

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on where a saved reader stopped.

        Raises:
            ValueError: not what a reader of this kind saved.
        """


class Recognizer(Protocol):
    """A model that hears audio and reports events: one set of weights, any number of streams.

    Attributes:
        sample_rate: of the audio that it hears, in Hz.
        chunk: samples that it decides on together.
        delay: further samples that it must have heard before it decides on a chunk.
    """

    sample_rate: int
    chunk: int
    delay: int

    def init_state(self, slots: int) -> State:
        """State of ``slots`` streams that have heard nothing."""

    def step(self, audio: Tensor, lengths: Tensor, state: Any) -> tuple[Any, Any]:
        """Audio (S, C) float32 in [-1, 1], (S,) samples and state -> output for `Reader.read`, new state."""

    def flush(self, state: Any) -> Any:
        """The output for `Reader.finish` of streams that have ended."""

    def reader(self) -> Reader:
        """A reader for a new stream."""
