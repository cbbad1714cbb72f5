"""How long steps take, as measured: what admission and the pacing of ticks go by."""

from __future__ import annotations

from bisect import bisect_left

#: Weight of the newest step in the running ratio of real to calibrated times.
_MEMORY = 0.1
#: What one step counts for at most, against what was expected: a pause of the machine says nothing of the next steps.
_SURPRISE = 2.0


class StepTimes:
    """Seconds of a step as a function of its work, chunks summed over streams: a measured table times a running correction."""

    def __init__(self) -> None:
        self._work: list[int] = []
        self._seconds: list[float] = []
        self._ratio = 1.0

    def calibrate(self, work: int, seconds: float) -> None:
        """Put a measurement into the table; ``work`` grows from call to call."""
        self._work.append(work)
        self._seconds.append(max(seconds, self._seconds[-1] if self._seconds else 0.0))

    def observe(self, work: int, seconds: float) -> None:
        """Follow the machine: others may share it, or the clock may change."""
        if not self._work:
            self.calibrate(work, seconds)
            return
        expected = self.predict(work)
        if expected > 0:
            self._ratio *= 1 + _MEMORY * (min(seconds / expected, _SURPRISE) - 1)

    def predict(self, work: int) -> float:
        """Seconds of a step; in proportion beyond the table, 0 before anything was measured."""
        if not self._work:
            return 0.0
        i = bisect_left(self._work, work)
        if i == len(self._work):
            return self._ratio * self._seconds[-1] * work / self._work[-1]
        if i == 0:
            return self._ratio * self._seconds[0]
        (w0, w1), (s0, s1) = self._work[i - 1 : i + 1], self._seconds[i - 1 : i + 1]
        return self._ratio * (s0 + (s1 - s0) * (work - w0) / (w1 - w0))
