"""What a scheduler allows."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal


class Refused(ValueError):
    """A stream that is not taken in; ``code`` is "full", "busy", "draining" or "limit"."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class SchedulerConfig:
    """Limits of a scheduler.

    Attributes:
        max_streams: streams at a time.
        utilisation: part of the time that steps may take, as measured, with every stream live; a stream beyond is refused.
            Infinite: refuse by ``max_streams`` only.
        queue_s: undecoded audio of a stream, in seconds, beyond which its sender waits.
        ahead_s: audio of a stream ahead of real time, in seconds, beyond which its sender waits.
        patience_s: how long a complete chunk waits for others to share its step.
        batch_s: the time that a step may take on behalf of audio that is not yet due.
        max_batch: streams in one step.
        late_s: delay behind real time with which any stream is met, at which no more streams are taken.
        lag_s: delay behind real time that is reported to a stream's client.
        shed_s: delay behind real time, of any stream, beyond which streams are given up.
        shed: which: "newest", one a second, or "none". Their clients are told, and can resume.
        outbox: events that a stream keeps for a reader that does not take them; one more ends the stream.
    """

    max_streams: int = 64
    utilisation: float = 0.75
    queue_s: float = 5.0
    ahead_s: float = math.inf
    patience_s: float = 0.02
    batch_s: float = 0.1
    max_batch: int = 256
    late_s: float = 0.4
    lag_s: float = 1.0
    shed_s: float = 3.0
    shed: Literal["newest", "none"] = "newest"
    outbox: int = 1000

    def __post_init__(self) -> None:
        if self.shed not in ("newest", "none"):
            raise ValueError(f"shed is {self.shed!r}: choose newest or none")
        for field in fields(self):
            if field.name != "shed" and not getattr(self, field.name) >= (0 if field.name == "patience_s" else 1e-9):
                raise ValueError(f"{field.name} is {getattr(self, field.name)}: it must be positive")
