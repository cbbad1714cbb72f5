"""Measure every kernel against its peers and its floor: one process a family, all of them compiling at once, and timing in turn."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .case import Case, Row, machine_speed
from .render import row_of, table, tuning_table

#: Modules of this package that hold a list CASES, and one TUNINGS where there is something to choose; the slowest to compile first.
FAMILIES = ("window_attention", "step_attention", "transducer", "recurrence", "entmax", "convolution", "viterbi", "monotonic")

#: Whose versions matter.
PACKAGES = ("torch", "triton", "torchaudio", "fla-core", "flash-linear-attention", "entmax", "adasplash", "numba")


#: Of the time, how much may go by before those that are ready are timed beside those that still compile.
WARM_SHARE = 0.7


class BenchmarkError(ValueError):
    """Benchmarks that cannot be run as asked."""


def cases(family: str) -> list[Case]:
    """The cases of a family."""
    found: list[Case] = importlib.import_module(f".{family}", __package__).CASES
    return found


@dataclass
class Measured:
    """What came out: rows in the order of cases, and what tuning tried."""

    rows: list[Row]
    tuned: list[dict[str, Any]]


class Worker:
    """The process of one family, started again without the case, or the peer, that killed it.

    Args:
        family: its module.
        mode: "measure" or "tune".
        deadline: on the monotonic clock.
        command: starts a worker, before its arguments.
    """

    def __init__(self, family: str, mode: str, deadline: float, command: Sequence[str] = (sys.executable, "-m", f"{__package__}.worker")):
        self.family, self._mode, self._deadline, self._command = family, mode, deadline, command
        self.rows: dict[int, Row] = {}
        self.tuned: list[dict[str, Any]] = []
        self._broken: list[tuple[int, str]] = []
        self._start()

    def _start(self) -> None:
        done = ",".join(map(str, self.rows))
        command = [*self._command, self.family, done, self._mode, json.dumps(self._broken)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # noqa: S603
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._errors: list[str | None] = []
        self._at: int | None = None
        self._ready, self._ended, self._peer_broke = False, False, False
        pipes = (self._process.stdout, self._lines.put), (self._process.stderr, self._errors.append)
        self._drains = [threading.Thread(target=_drain, args=pipe, daemon=True) for pipe in pipes]
        for drain in self._drains:
            drain.start()

    def warm(self, deadline: float) -> bool:
        """Wait until all is compiled and checked; whether it is, by then."""
        while not self._ready and not self._ended:
            if not self._take(deadline):
                return False
        return True

    def time(self, order: str) -> None:
        """Time the cases; ``order`` tells the worker how fast the machine is."""
        while not self._ended:
            if self._ready and self._process.stdin:
                self._ready = False
                with suppress(BrokenPipeError):  # its end is noticed below
                    self._process.stdin.write(order + "\n")
                    self._process.stdin.flush()
            if not self._take(self._deadline):
                self._give_up("out of time")

    def _take(self, deadline: float) -> bool:
        """Take one line of what the worker says; False if none comes in time."""
        try:
            line = self._lines.get(timeout=max(deadline - time.monotonic(), 0.01))
        except queue.Empty:
            return False
        if line is None:
            self._ended = not self._died()
            return True
        try:
            said = json.loads(line)
            kind = said["kind"]
        except (ValueError, TypeError, KeyError):
            return True  # a library that prints
        if kind in ("checking", "measuring"):
            self._at = said["index"]
        elif kind == "broken":
            self._broken.append((said["index"], said["peer"]))
            self._peer_broke = True
        elif kind == "ready":
            self._ready = True
        elif kind == "row":
            self.rows[said["index"]] = row_of(said["row"])
        elif kind == "tuned":
            self.tuned.append({"family": self.family, **said})
        return True

    def _died(self) -> bool:
        """Behind the end of the process: whether another goes on."""
        if self._process.wait() == 0:
            return False
        for drain in self._drains:
            drain.join()
        last = next((line.strip() for line in reversed(self._errors) if line and line.strip()), f"exit status {self._process.returncode}")
        if self._mode == "tune":
            self.tuned.append({"family": self.family, "kind": "tuned", "name": "", "failure": last[:160]})
            return False
        if self._at is None:  # it never came to a case, and another would not either
            self._fail(f"the process died: {last}"[:160])
            return False
        if not self._peer_broke:
            self._fail(f"the process died: {last}"[:160], self._at)
        if len(self.rows) == len(cases(self.family)):
            return False
        self._start()
        return True

    def _give_up(self, why: str) -> None:
        self._process.kill()
        self._ended = True
        if self._mode != "tune":
            self._fail(why)

    def _fail(self, why: str, only: int | None = None) -> None:
        """Give the case, or all that have none, a row that says why there are no numbers."""
        for index, case in enumerate(cases(self.family)):
            if only in (None, index):
                self.rows.setdefault(index, Row(case.family, case.name, case.shape, failure=why))


def _drain(pipe: Any, take: Callable[[str | None], None]) -> None:
    for line in pipe:
        take(line)
    take(None)


def run(
    families: Sequence[str] = FAMILIES,
    mode: str = "measure",
    seconds: float = 150.0,
    say: Callable[[str], None] = print,
    keep: Callable[[Measured], None] = lambda _: None,
) -> Measured:
    """Measure, or tune, within so many seconds; ``keep`` gets all there is whenever a family is done.

    Raises:
        BenchmarkError: a family that does not exist, or no GPU.
    """
    import torch

    unknown = sorted(set(families) - set(FAMILIES))
    if unknown:
        raise BenchmarkError(f"no kernel family {unknown[0]!r}; there are {', '.join(FAMILIES)}")
    if not torch.cuda.is_available():
        raise BenchmarkError("kernel benchmarks need a CUDA GPU, and PyTorch sees none")
    began = time.monotonic()
    chosen = [family for family in FAMILIES if family in families]
    workers = [Worker(family, mode, began + seconds) for family in chosen]
    late = [worker for worker in workers if not worker.warm(began + WARM_SHARE * seconds)]
    say(f"{time.monotonic() - began:6.1f} s  compiled and checked")
    order = json.dumps(asdict(machine_speed()))
    torch.cuda.empty_cache()
    for worker in [worker for worker in workers if worker not in late] + late:
        worker.time(order)
        say(f"{time.monotonic() - began:6.1f} s  {worker.family}")
        keep(_measured(workers))
    return _measured(workers)


def _measured(workers: Sequence[Worker]) -> Measured:
    return Measured([row for worker in workers for _, row in sorted(worker.rows.items())], [x for worker in workers for x in worker.tuned])


def machine() -> dict[str, str]:
    """Where and with what the numbers were measured."""
    import torch

    found = {"date": datetime.datetime.now(datetime.UTC).date().isoformat(), "gpu": torch.cuda.get_device_name()}
    found |= {"cuda": torch.version.cuda or "", "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def numbers(measured: Measured) -> dict[str, Any]:
    """Machine, rows and what tuning tried, for JSON."""
    return {"machine": machine(), "rows": [asdict(row) for row in measured.rows], "tuned": measured.tuned}


def write_json(measured: Measured, path: Path) -> None:
    """Write `numbers` to ``path``."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(numbers(measured), indent=1) + "\n")
    part.replace(path)


def report(families: Sequence[str], output: Path | None, tuning: bool, seconds: float, as_json: bool = False) -> int:
    """Measure, print the table (or the numbers as JSON), and write the numbers where asked; 1 if a kernel is wrong or failed.

    Raises:
        BenchmarkError: as for `run`, or there is no folder to write to.
    """

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if output is not None and not output.absolute().parent.is_dir():
        raise BenchmarkError(f"cannot write {output}: there is no folder {output.absolute().parent}")
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "2")  # peers compile in all processes at once

    def keep(measured: Measured) -> None:
        if output is not None:
            write_json(measured, output)

    measured = run(families or FAMILIES, "tune" if tuning else "measure", seconds, say, keep)
    if as_json:
        print(json.dumps(numbers(measured)))
    else:
        print(", ".join(f"{name} {value}" for name, value in machine().items()))
        print(tuning_table(measured.tuned) if tuning else table(measured.rows))
    return int(any(row.failure for row in measured.rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; exit status 2 for bad arguments or no GPU."""
    parser = argparse.ArgumentParser(prog="python -m riverrun.kernels.benchmarks", description=__doc__)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=f"of {', '.join(FAMILIES)}; all by default")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the numbers to this file, as JSON")
    parser.add_argument("--tune", action="store_true", help="try other launch sizes, and print the best for each class of shapes")
    parser.add_argument("--seconds", type=float, default=150.0, help="stop after so many; what is left is marked (150)")
    options = parser.parse_args(arguments)
    try:
        return report(options.families, options.output, options.tune, options.seconds)
    except BenchmarkError as error:
        parser.exit(2, f"{error}\n")
