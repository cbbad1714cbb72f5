"""Voice activity: whether there is speech in each window of a stream, by silero-vad.

The network comes with the package ``silero-vad`` (MIT licence) and runs in onnxruntime; neither silero's own code nor its global state is
used. A decision belongs to a window of 512 samples at 16 kHz, counted from the stream's start, and depends on the windows before it
alone: so it is the same however the audio is cut, in whichever batch, and across saving and loading. Every stream has a state of its own.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .state import State

SAMPLE_RATE = 16000
WINDOW = 512  #: samples of one decision
WINDOW_S = WINDOW / SAMPLE_RATE

_CONTEXT = 64  # samples before a window that the network reads with it
_HIDDEN = 128  # size of its recurrent state, of which there are two


class VadError(ValueError):
    """Voice activity detection that cannot be had."""


@runtime_checkable
class VoicedReader(Protocol):
    """A `riverrun.streaming.Reader` that goes by voice activity too."""

    def voice(self, speech: Sequence[bool]) -> None:
        """Whether there was speech in each further window (`WINDOW_S` seconds) of the stream; comes before the output of the same audio."""


@dataclass(frozen=True)
class VadConfig:
    """When a window counts as speech.

    Attributes:
        threshold: probability of speech at which it begins.
        release: probability below which it ends.

    Raises:
        ValueError: not 0 < release <= threshold < 1.
    """

    threshold: float = 0.5
    release: float = 0.35

    def __post_init__(self) -> None:
        if not 0 < self.release <= self.threshold < 1:
            raise ValueError(
                f"speech begins at {self.threshold} and ends at {self.release}: the end must be no higher, both between 0 and 1"
            )


@dataclass
class VadState(State):
    """What the detector remembers of each stream; on the CPU."""

    context: Tensor  # (slots, 64) the samples before the next window
    hidden: Tensor  # (slots, 2, 128)
    waiting: Tensor  # (slots, 512) samples of a window that is not complete, at the left
    count: Tensor  # (slots,) how many
    speaking: Tensor  # (slots,) bool, in the last window


class Speech:
    """Decisions of a step: ``speech[row]`` is those of one stream, a list of bools, oldest window first."""

    def __init__(self, decisions: NDArray[np.bool_], counts: NDArray[np.int64]):
        self._decisions, self._counts = decisions, counts

    def __getitem__(self, row: int) -> list[bool]:
        decided: list[bool] = self._decisions[row, : self._counts[row]].tolist()
        return decided


class SileroVad:
    """The detector; one serves any number of streams.

    Args:
        config: thresholds.
        threads: of onnxruntime, for large batches.

    Raises:
        VadError: the extra ``vad`` is not installed.
    """

    def __init__(self, config: VadConfig | None = None, threads: int = 1):
        self.config = config or VadConfig()
        self._session = _session(threads)
        self._rate = np.array(SAMPLE_RATE, np.int64)

    def init_state(self, slots: int) -> VadState:
        """State of ``slots`` streams that have heard nothing."""
        return VadState(
            torch.zeros(slots, _CONTEXT),
            torch.zeros(slots, 2, _HIDDEN),
            torch.zeros(slots, WINDOW),
            torch.zeros(slots, dtype=torch.long),
            torch.zeros(slots, dtype=torch.bool),
        )

    def step(self, pieces: Sequence[NDArray[np.float32]], state: State) -> tuple[Speech, VadState]:
        """One piece of audio for each slot, of any length -> decisions of the windows that are complete, new state.

        Samples that complete no window wait for the next step; at a stream's end they are never decided on.
        """
        context, hidden, waiting, count, speaking = (t.numpy().copy() for _, t in state.named_tensors())
        windows = (count + [len(piece) for piece in pieces]) // WINDOW
        decisions = np.zeros((len(pieces), int(windows.max(initial=0))), np.bool_)
        audio = np.zeros((len(pieces), decisions.shape[1], WINDOW), np.float32)
        for row, piece in enumerate(pieces):
            held = np.concatenate([waiting[row, : count[row]], piece])
            whole = windows[row] * WINDOW
            audio[row, : windows[row]] = held[:whole].reshape(-1, WINDOW)
            count[row] = len(held) - whole
            waiting[row, : count[row]] = held[whole:]
            waiting[row, count[row] :] = 0
        for window in range(decisions.shape[1]):
            rows = np.flatnonzero(windows > window)
            heard = np.concatenate([context[rows], audio[rows, window]], 1)
            likely, after = self._session.run(
                None, {"input": heard, "state": np.ascontiguousarray(hidden[rows].transpose(1, 0, 2)), "sr": self._rate}
            )
            context[rows], hidden[rows] = heard[:, -_CONTEXT:], after.transpose(1, 0, 2)
            begins, goes_on = likely[:, 0] >= self.config.threshold, likely[:, 0] >= self.config.release
            decisions[rows, window] = speaking[rows] = begins | (speaking[rows] & goes_on)
        return Speech(decisions, windows), VadState(*map(torch.from_numpy, (context, hidden, waiting, count, speaking)))


def _session(threads: int) -> Any:
    # onnxruntime reports its use to its maker, and marks the machine with an identifier, as soon as it is imported
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError:
        onnxruntime = None
    found = find_spec("silero_vad")
    if onnxruntime is None or found is None or not found.submodule_search_locations:
        raise VadError("voice activity detection needs silero-vad and onnxruntime; pip install 'riverrun[vad]'")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    model = Path(found.submodule_search_locations[0]) / "data" / "silero_vad.onnx"
    return onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


__all__ = ["SAMPLE_RATE", "WINDOW", "WINDOW_S", "SileroVad", "Speech", "VadConfig", "VadError", "VadState", "VoicedReader"]
