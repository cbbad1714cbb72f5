"""When to write: simultaneous translation policies over one interface."""

from .base import Hypothesis, Policy, Progress

__all__ = ["Hypothesis", "Policy", "Progress"]
