"""``riverrun bench serve``: how many live streams a server holds, found by real clients in real time."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import UsageError, say
from .options import Device, Json, LiveLatency
from .remote import client_module, stream_url
from .served import Served, started, work_done

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Sending that was so late (seconds, 99 %) makes a measurement one of the clients, not of the server.
_LATE = 0.1
#: Seconds in which clients come, at least, and how many a second: people do not begin together.
_COMING_S, _COMING_PER_S = 2.0, 300.0
#: Seconds between a trial that failed and the next.
_CALM_S = 3.0

Clients = Annotated[
    int | None,
    typer.Option("--clients", "-n", help="Clients at a time; found by trying if not given.", min=1, max=100000, show_default=False),
]
Server = Annotated[str | None, typer.Option(help="A server; one is started for the time if not given.", metavar="URL", show_default=False)]
Audio = Annotated[
    Path | None,
    typer.Option(help="A recording, cut into utterances; a bundled one if not given.", metavar="FILE", show_default=False),
]


def serve(
    clients: Clients = None,
    first: Annotated[int | None, typer.Option(help="Clients of the first trial.", min=1, show_default="what the server expects")] = None,
    limit: Annotated[float, typer.Option(help="Milliseconds that words may come late, 99 % of the time.", min=1.0)] = 500.0,
    seconds: Annotated[float, typer.Option(help="Time of one trial.", min=1.0, max=36000.0)] = 20.0,
    budget: Annotated[float, typer.Option(help="Seconds of all trials together.", min=1.0, max=36000.0)] = 240.0,
    server: Server = None,
    model: Annotated[str, typer.Option("--model", "-m", help="Model of the server that is started.", metavar="MODEL")] = "default",
    latency: LiveLatency = None,
    audio: Audio = None,
    utterance: Annotated[float, typer.Option(help="Seconds of audio of one stream.", min=0.5, max=600.0)] = 8.0,
    piece: Annotated[float, typer.Option(help="Milliseconds of audio in a message.", min=5.0, max=1000.0)] = 100.0,
    drivers: Annotated[int, typer.Option(help="Processes that the clients share.", min=1, max=64)] = 1,
    threads: Annotated[int | None, typer.Option(help="Processor threads of the server.", min=1, max=256, show_default=False)] = None,
    device: Device = "cpu",
    acceptors: Annotated[int, typer.Option(help="See riverrun serve.", min=0, max=64)] = 0,
    as_json: Json = False,
) -> None:
    """Find how many streams a server holds, or measure it under a given number.

    A stream is held if it is taken in, does not break off, and its words come in time: both the last word of an utterance, as its client
    meets it, and the text of each chunk, as the server measures it, 99 % of the time within the limit from when the audio was spoken.
    Ends with what happens under twice as many clients.
    """
    client_module()
    with (
        started(server, model, latency, device, threads, acceptors) as served,
        _drivers(served.address, drivers, _heard(audio), utterance, piece / 1000, latency) as driving,
    ):
        trials = Trials(served, driving, seconds, limit / 1000, tell=as_json)
        result: dict[str, Any] = {}
        if clients is None:
            held, twice = trials.find(first or served.state().get("capacity") or 8, budget)
            result |= {"streams_held": held, "at_twice_that": twice, "trials": trials.done}
        else:
            result |= trials.run(clients)
        result["state_bytes_per_stream"] = served.state_bytes()
    result |= {"model": served.model, "device": device, "latency_ms": latency, "limit_ms": limit, "trial_seconds": seconds}
    result |= {"utterance_seconds": utterance, "piece_ms": piece, "drivers": drivers, "acceptors": acceptors}
    if as_json:
        print(json.dumps(result))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in result.items():
        if name != "trials":
            table.add_row(name.replace("_", " "), "–" if value is None else str(value))
    Console(highlight=False, file=sys.stdout).print(table)


class Trials:
    """Trials against one server.

    Args:
        served: the server.
        driving: the processes of clients.
        seconds: of one trial, after clients have come.
        limit: seconds that words may come late.
        tell: whether each trial is written to stderr as it ends, as JSON.
    """

    def __init__(self, served: Served, driving: list[subprocess.Popen[str]], seconds: float, limit: float, tell: bool = False):
        self._served, self._driving, self._seconds, self._limit, self._tell_trials = served, driving, seconds, limit, tell
        self.done: list[dict[str, Any]] = []  #: results so far

    def find(self, start: int, budget: float) -> tuple[int, dict[str, Any] | None]:
        """The most clients whose trial passed, by doubling and halving, and a trial under twice as many.

        Args:
            start: clients of the first trial.
            budget: seconds of all trials; the last is kept for twice as many.
        """
        until = time.monotonic() + budget
        held, below, clients = 0, None, start
        while below is None or below - held > max(1, held // 20):
            began = time.monotonic()
            result = self.run(clients)
            if result["passed"]:
                held, clients = clients, 2 * clients if below is None else (clients + below) // 2
            else:
                below = min(clients, below or clients)
                clients = result["speaking"] if held < result["speaking"] < below and result["refused"] else (held + below) // 2
            if clients < 1 or until - time.monotonic() < 2 * (time.monotonic() - began):
                break
        return held, self.run(2 * held) if held else None

    def run(self, clients: int) -> dict[str, Any]:
        """One trial."""
        before = self._served.memory() if not self.done else self.done[0]["memory_before"]
        if self.done and not self.done[-1]["passed"]:  # what the last trial left undone is none of this one's
            self._set(0, 0.0)
            time.sleep(_CALM_S)
        within = max(_COMING_S, clients / _COMING_PER_S)
        self._set(clients, within)
        time.sleep(within + min(self._seconds / 4, 2.0))
        self._reports()
        began, delays, work = time.monotonic(), self._served.delays(), self._served.work()
        time.sleep(self._seconds)
        reports, delays, memory = self._reports(), self._served.delays() - delays, self._served.memory()
        worked = work_done(work, self._served.work(), time.monotonic() - began)
        result = {
            "clients": clients,
            "speaking": sum(r["speaking"] for r in reports),
            "utterances": sum(len(r["delays"]) for r in reports),
            **_quantiles("last_word_ms", [d for r in reports for d in r["delays"]]),
            "chunk_ms_p99": delays.quantile_ms(0.99),
            "sent_late_ms_p99": _quantiles("late", [d for r in reports for d in r["late"]])["late_p99"],
            "refused": dict(sum((Counter(r["refused"]) for r in reports), Counter())),
            "failed": dict(sum((Counter(r["failed"]) for r in reports), Counter())),
            "lag_reports": sum(r["lags"] for r in reports),
            "memory_before": before,
            "memory": memory,
            "server": worked,
        }
        slowest = max(result["last_word_ms_p99"] or 0.0, result["chunk_ms_p99"] or 0.0)
        in_time = result["last_word_ms_p99"] is not None and slowest <= self._limit * 1000
        result["passed"] = in_time and not result["refused"] and not result["failed"]
        if (result["sent_late_ms_p99"] or 0.0) > _LATE * 1000:
            say(f"{clients} clients: this machine sends too late to measure ({result['sent_late_ms_p99']} ms); use more --drivers")
        if before and memory:
            result["memory_per_stream"] = max(memory - before, 0) // max(result["speaking"], 1)
        self.done.append(result)
        if self._tell_trials:
            print(json.dumps(result), file=sys.stderr, flush=True)
        return result

    def _set(self, clients: int, within: float) -> None:
        share, rest = divmod(clients, len(self._driving))
        for i, driver in enumerate(self._driving):
            self._tell(driver, {"clients": share + (i < rest), "within": within})

    def _reports(self) -> list[dict[str, Any]]:
        for driver in self._driving:
            self._tell(driver, {"report": True})
        return [json.loads(self._answer(driver)) for driver in self._driving]

    @staticmethod
    def _tell(driver: subprocess.Popen[str], order: dict[str, Any]) -> None:
        if driver.stdin:
            driver.stdin.write(json.dumps(order) + "\n")
            driver.stdin.flush()

    @staticmethod
    def _answer(driver: subprocess.Popen[str]) -> str:
        if not driver.stdout or not (line := driver.stdout.readline()):
            raise UsageError("a process of clients has ended; see above")
        return line


def _quantiles(name: str, seconds: list[float]) -> dict[str, float | None]:
    """Median, 99 % and maximum in milliseconds."""
    ordered = sorted(seconds)

    def at(q: float) -> float | None:
        return round(ordered[min(int(q * len(ordered)), len(ordered) - 1)] * 1000, 1) if ordered else None

    return {f"{name}_p50": at(0.5), f"{name}_p99": at(0.99), f"{name}_max": at(1.0)}


def _heard(audio: Path | None) -> NDArray[np.int16]:
    import numpy as np

    from riverrun.speech.audio import read_audio

    samples = read_audio(audio or Path(__file__).parent / "demo" / "prompts.ogg")
    if not len(samples):
        raise UsageError(f"{audio} holds no audio; give another recording")
    return (np.clip(samples, -1, 32767 / 32768) * 32768).astype(np.int16)


@contextmanager
def _drivers(
    address: str, drivers: int, samples: NDArray[np.int16], utterance: float, piece: float, latency: int | None
) -> Iterator[list[subprocess.Popen[str]]]:
    import numpy as np

    least = int(2 * utterance * 16000)
    program = "from riverrun.cli.load import main; main()"
    start = {} if latency is None else {"latency_ms": latency}
    with tempfile.NamedTemporaryFile(suffix=".npy") as file:
        np.save(file, np.tile(samples, -(-least // len(samples))))
        file.flush()
        about = {"url": stream_url(address), "samples": file.name, "utterance": utterance, "piece": piece, "start": start}
        running: list[subprocess.Popen[str]] = []
        try:
            for seed in range(drivers):
                command = [sys.executable, "-c", program, json.dumps({**about, "seed": seed})]
                running.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))  # noqa: S603  # our own
            for driver in running:  # they have started when they answer
                Trials._tell(driver, {"report": True})
                Trials._answer(driver)
            yield running
        finally:
            for driver in running:
                if driver.stdin:
                    driver.stdin.close()
            for driver in running:
                driver.wait()
