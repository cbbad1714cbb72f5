"""The contract for streaming parts and the live runtime. Imports nothing else of riverrun."""

from .events import Endpoint, Event, Final, Partial, Transcript, Word
from .module import Causal, Example, Output, PerFrame, Rechunk, Series, StreamingModule, concatenate, left_of
from .pipeline import Stream
from .recognizer import Reader, Recognizer
from .state import Frames, Nothing, State, StateError, States, last_frames, within, zero_padding

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
