"""How late a simultaneous translation is: the field's metrics, equal to SimulEval's where it has them."""

from .compute import Aware, additive, queue
from .erasure import Erasure, normalized_erasure
from .metrics import (
    METRICS,
    average_lagging,
    average_proportion,
    differentiable_average_lagging,
    length_adaptive_average_lagging,
    start_offset,
    yet_another_average_lagging,
)
from .score import Scores, Timing, read_instances, score, split_units, timing_of
from .streams import Sentence, StreamScores, resegment, stream_laal
from .token_delay import average_token_delay

__all__ = [
    "METRICS",
    "Aware",
    "Erasure",
    "Scores",
    "Sentence",
    "StreamScores",
    "Timing",
    "additive",
    "average_lagging",
    "average_proportion",
    "average_token_delay",
    "differentiable_average_lagging",
    "length_adaptive_average_lagging",
    "normalized_erasure",
    "queue",
    "read_instances",
    "resegment",
    "score",
    "split_units",
    "start_offset",
    "stream_laal",
    "timing_of",
    "yet_another_average_lagging",
]
