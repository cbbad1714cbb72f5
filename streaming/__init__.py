"""The contract for streaming parts and the live runtime. Imports nothing else of riverrun.

Names are imported on first use: processes that only carry messages (`riverrun.streaming.server.acceptor`) do without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .events import Endpoint, Event, Final, Partial, Transcript, Word
    from .module import Causal, Example, Output, PerFrame, Rechunk, Series, StreamingModule, concatenate, left_of
    from .pipeline import Stream
    from .recognizer import Reader, Recognizer
    from .state import Frames, Nothing, State, StateError, States, last_frames, within, zero_padding

_HOMES = {
    "events": ("Endpoint", "Event", "Final", "Partial", "Transcript", "Word"),
    "module": ("Causal", "Example", "Output", "PerFrame", "Rechunk", "Series", "StreamingModule", "concatenate", "left_of"),
    "pipeline": ("Stream",),
    "recognizer": ("Reader", "Recognizer"),
    "state": ("Frames", "Nothing", "State", "StateError", "States", "last_frames", "within", "zero_padding"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "Causal",
    "Endpoint",
    "Event",
    "Example",
    "Final",
    "Frames",
    "Nothing",
    "Output",
    "Partial",
    "PerFrame",
    "Reader",
    "Rechunk",
    "Recognizer",
    "Series",
    "State",
    "StateError",
    "States",
    "Stream",
    "StreamingModule",
    "Transcript",
    "Word",
    "concatenate",
    "last_frames",
    "left_of",
    "within",
    "zero_padding",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
