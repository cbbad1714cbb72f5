"""Training losses of recognisers."""

from .ctc import ctc_loss
from .transducer import transducer_loss

__all__ = ["ctc_loss", "transducer_loss"]
