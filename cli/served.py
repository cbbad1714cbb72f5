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
