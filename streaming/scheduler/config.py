"""What a scheduler allows."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields


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
        batch_s: time that a step may take on behalf of audio that is not yet due.
        max_batch: streams in one step.
        lag_s: delay behind real time that is reported.
        outbox: events that a stream keeps for a reader that does not take them; one more ends the stream.
    """

    max_streams: int = 64
    utilisation: float = 0.5
    queue_s: float = 5.0
    ahead_s: float = math.inf
    patience_s: float = 0.02
    batch_s: float = 0.1
    max_batch: int = 256
    lag_s: float = 1.0
    outbox: int = 1000

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) >= (0 if field.name == "patience_s" else 1e-9):
                raise ValueError(f"{field.name} is {getattr(self, field.name)}: it must be positive")
