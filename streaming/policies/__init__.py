"""When to write: simultaneous translation policies over one interface."""

from .agreement import HoldN, LocalAgreement, Retranslation
from .attention import AlignAtt, EDAtt
from .base import Hypothesis, Policy, PolicyError, Progress
from .counting import Fixed, WaitK
from .history import UNSPACED, FixedWords, History, Textual, make_history
from .make import POLICIES, make_policy, parse_policy, policy_options, policy_text
from .streamatt import StreamAtt

__all__ = [
    "POLICIES",
    "UNSPACED",
    "AlignAtt",
    "EDAtt",
    "Fixed",
    "FixedWords",
    "History",
    "HoldN",
    "Hypothesis",
    "LocalAgreement",
    "Policy",
    "PolicyError",
    "Progress",
    "Retranslation",
    "StreamAtt",
    "Textual",
    "WaitK",
    "make_history",
    "make_policy",
    "parse_policy",
    "policy_options",
    "policy_text",
]
