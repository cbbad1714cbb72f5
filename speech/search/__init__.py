"""From encoder frames to labels: greedy and beam search of CTC models and transducers."""

from .base import Committed, GreedySearch, Label, Labels, Search, read_labels
from .beam import BeamSearch, Hypotheses
from .ctc_beam import CtcBeam
from .ctc_greedy import CtcGreedy
from .transducer_beam import TransducerBeam
from .transducer_greedy import TransducerGreedy

__all__ = [
    "BeamSearch",
    "Committed",
    "CtcBeam",
    "CtcGreedy",
    "GreedySearch",
    "Hypotheses",
    "Label",
    "Labels",
    "Search",
    "TransducerBeam",
    "TransducerGreedy",
    "read_labels",
]
