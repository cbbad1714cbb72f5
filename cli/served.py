"""A server as benchmarks see it: started for the time or given, its state, its figures, its memory."""

from __future__ import annotations

import collections
import json
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from .errors import UsageError
from .remote import stream_url, token

#: Series of ``riverrun_step_…`` that `Served.work` counts.
_TICKS = {"ticks": "seconds_count", "seconds": "seconds_sum", "streams": "streams_sum"}


@dataclass(frozen=True)
class Delays:
    """A histogram of seconds, as Prometheus counts it: how many were at most each bound."""

    bounds: tuple[float, ...]
    counts: tuple[float, ...]

    def __sub__(self, before: Self) -> Delays:
        """What came since."""
        if not before.counts:
            return self
        return Delays(self.bounds, tuple(a - b for a, b in zip(self.counts, before.counts, strict=True)))

    def quantile_ms(self, q: float) -> float | None:
        """A quantile in milliseconds, between bounds in proportion; None without observations."""
        if not self.counts or not self.counts[-1]:
            return None
        wanted = q * self.counts[-1]
        below, start = 0.0, 0.0
        for bound, count in zip(self.bounds, self.counts, strict=True):
            if count >= wanted:
                return round(1000 * (start if bound == float("inf") else start + (bound - start) * (wanted - below) / (count - below)), 1)
            below, start = count, bound
        return None


class Served:
    """A server.

    Attributes:
        address: ``HOST:PORT`` or a URL.
        model: its first model.
    """

    def __init__(self, address: str, process: subprocess.Popen[str] | None = None):
        self.address, self._process = address, process
        parts = urlsplit(stream_url(address))
        self._base = f"{'https' if parts.scheme == 'wss' else 'http'}://{parts.netloc}{parts.path.removesuffix('/v1/stream')}"
        self.model: str | None = self.state().get("model")

    def state(self) -> dict[str, Any]:
        """What ``/readyz`` says."""
        return dict(json.loads(self._get("/readyz")))

    def delays(self) -> Delays:
        """Seconds from spoken audio to its events, so far."""
        found = re.findall(r'^riverrun_delay_seconds_bucket\{le="([^"]+)"\} (\S+)$', self._get("/metrics"), re.MULTILINE)
        return Delays(tuple(float(bound) for bound, _ in found), tuple(float(count) for _, count in found))

    def work(self) -> dict[str, float]:
        """What the server has done so far: ticks, streams in them, seconds of their parts and of the threads' processor time."""
        metrics = self._get("/metrics")
        done = {name: _value(metrics, f"riverrun_step_{series}") for name, series in _TICKS.items()}
        for kind, series in (("part", "riverrun_tick_seconds_total"), ("thread", "riverrun_thread_seconds")):
            for name, seconds in re.findall(rf'^{series}\{{{kind}="(\w+)"\}} (\S+)$', metrics, re.MULTILINE):
                done[f"{kind} {name}"] = float(seconds)
        return done

    def memory(self) -> int | None:
        """Bytes that the server's processes and its accelerator hold; of a server elsewhere, its first process alone."""
        metrics = self._get("/metrics")
        device = sum(float(v) for v in re.findall(r"^riverrun_accelerator_bytes (\S+)$", metrics, re.MULTILINE))
        if self._process:
            return int(sum(_resident(pid) for pid in _family(self._process.pid)) + device)
        found = re.search(r"^process_resident_memory_bytes (\S+)$", metrics, re.MULTILINE)
        return int(float(found[1]) + device) if found else None

    def state_bytes(self) -> int | None:
        """State of one stream of the first model."""
        found = re.search(r"^riverrun_state_bytes\{.*\} (\S+)$", self._get("/metrics"), re.MULTILINE)
        return int(float(found[1])) if found else None

    def _get(self, path: str) -> str:
        headers = {"Authorization": f"Bearer {shown}"} if (shown := token()) else {}
        try:
            with urllib.request.urlopen(urllib.request.Request(self._base + path, headers=headers), timeout=30) as answer:  # noqa: S310  # http or https
                return str(answer.read().decode())
        except OSError as error:
            raise UsageError(f"{self._base} does not answer: {error}") from None


@contextmanager
def started(given: str | None, model: str, latency: int | None, device: str, threads: int | None, acceptors: int = 0) -> Iterator[Served]:
    """The server given, or one of our own on a free port of this machine."""
    if given is not None:
        yield Served(given)
        return
    program = "from riverrun.cli.main import main; main()"
    command = [sys.executable, "-c", program, "serve", "--port", "0", "--models", model, "--max-streams", "8192", "--device", device]
    command += ["--acceptors", str(acceptors)]
    command += ["--threads", str(threads)] if threads else []
    command += ["--latency", str(latency)] if latency else []
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)  # noqa: S603  # our own
    try:
        last = ""
        for last in process.stderr or ():
            if found := re.search(r'"listening", "url": "([^"]+)"', last):
                threading.Thread(target=lambda: collections.deque(process.stderr or (), 0), daemon=True).start()  # lest it fill up
                yield Served(found[1], process)
                return
        raise UsageError(f"the server did not start: {last.strip().removeprefix('riverrun: ')}")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def work_done(before: dict[str, float], after: dict[str, float], seconds: float) -> dict[str, Any]:
    """Of `Served.work` at two times: where the time of ticks went, in milliseconds of one, and how busy each thread was, from 0 to 1."""
    done = {name: value - before.get(name, 0.0) for name, value in after.items()}
    ticks = max(done["ticks"], 1)

    def of(kind: str, scale: float, digits: int) -> dict[str, float]:
        return {name.removeprefix(kind): round(value * scale, digits) for name, value in done.items() if name.startswith(kind)}

    return {
        "ticks_per_second": round(done["ticks"] / seconds, 1),
        "streams_per_tick": round(done["streams"] / ticks, 1),
        "tick_ms": round(done["seconds"] / ticks * 1000, 2),
        "tick_ms_of": of("part ", 1000 / ticks, 2),
        "threads_busy": of("thread ", 1 / seconds, 3),
    }


def _value(metrics: str, series: str) -> float:
    found = re.search(rf"^{series} (\S+)$", metrics, re.MULTILINE)
    return float(found[1]) if found else 0.0


def _family(pid: int) -> list[int]:
    """A process and all that descend from it (Linux)."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            continue
    family = [pid]
    for member in family:
        family += [child for child, parent in parents.items() if parent == member]
    return family


def _resident(pid: int) -> int:
    try:
        found = re.search(r"VmRSS:\s+(\d+) kB", (Path("/proc") / str(pid) / "status").read_text())
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0
