"""Label-side networks of transducers: from the labels so far to a prediction of the next one.

A predictor is a streaming part over the label axis. The caller puts a blank before the first label, in training
(``[blank, y_1 … y_U]`` gives the U + 1 predictions of the lattice) as in search (one step of blank, then the labels).
"""

from .lstm import LstmPredictor
from .stateless import StatelessPredictor

__all__ = ["LstmPredictor", "StatelessPredictor"]
