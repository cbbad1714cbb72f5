"""One family's process: it compiles and checks its cases, waits for its turn, then times them.

Each family has a process of its own, so that a kernel that breaks its CUDA context takes no other family with it, and so that compiling,
which takes most of the time, is done for all of them at once. Lines of JSON on the standard output; ``go`` on the standard input.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from .case import Case, Row, Speed, Tuning, check, definition, forget, measure, reason, rotate, timed


def emit(kind: str, **content: Any) -> None:
    """Write one line."""
    print(json.dumps({"kind": kind, **content}), flush=True)


def fail(index: int, case: Case, failed: Exception) -> str:
    """Why a case failed; a broken CUDA context ends the process, and the next one goes on behind this case."""
    why = reason(failed)
    if "CUDA error" in str(failed):
        emit("row", index=index, row=dataclasses.asdict(Row(case.family, case.name, case.shape, failure=why)))
        sys.exit(f"{case.name}: {why}")
    return why


def warm(cases: Sequence[Case], skip: set[int]) -> list[tuple[float, float] | str]:
    """Check the cases, and run their peers once; for each, what `measure` wants to know, or why it failed."""
    found: list[tuple[float, float] | str] = []
    for index, case in enumerate(cases):
        if index in skip:
            found.append("")
            continue
        emit("checking", index=index)
        try:
            expected, took = definition(case)
            error = check(case, expected)
            del expected
            if error <= case.tolerance:
                _try_peers(index, case)
            found.append((error, took))
        except Exception as failed:  # a case that fails has a row that says so
            found.append(fail(index, case, failed))
        forget(case.ours, *case.peers.values())
    return found


def _try_peers(index: int, case: Case) -> None:
    arguments = case.inputs(0)
    for name, peer in case.peers.items():
        try:
            peer(*arguments)
            torch.cuda.synchronize()
        except Exception as failed:  # said when it is measured
            if "CUDA error" in str(failed):
                emit("broken", index=index, peer=name)
                sys.exit(f"{name}: {reason(failed)}")


def _breaks(*_: Any) -> None:
    raise RuntimeError("breaks the CUDA context")


def without(cases: Sequence[Case], broken: Sequence[list[Any]]) -> list[Case]:
    """The cases, with peers that broke a process before this one replaced by their error."""
    return [
        dataclasses.replace(case, peers={name: _breaks if [index, name] in broken else peer for name, peer in case.peers.items()})
        for index, case in enumerate(cases)
    ]


def rows(cases: Sequence[Case], checked: Sequence[tuple[float, float] | str], speed: Speed, skip: set[int]) -> Iterator[tuple[int, Row]]:
    """Measure the cases one after another."""
    for index, (case, found) in enumerate(zip(cases, checked, strict=True)):
        if index in skip:
            continue
        emit("measuring", index=index)
        try:
            row = Row(case.family, case.name, case.shape, failure=found) if isinstance(found, str) else measure(case, speed, found)
        except Exception as failed:  # as above
            row = Row(case.family, case.name, case.shape, failure=fail(index, case, failed))
        yield index, row
        forget(case.ours, *case.peers.values())


class Tuner:
    """Tries launch sizes: all are compiled and checked first, and those that are right are timed later."""

    def __init__(self, tunings: Sequence[Tuning]):
        self._tunings = tunings
        self._failed: dict[tuple[int, Any], str] = {}

    def check(self) -> None:
        """Compile and check."""
        for index, tuning in enumerate(self._tunings):
            try:
                expected, _ = definition(tuning.case)
            except Exception as failed:
                self._failed |= {(index, candidate): reason(failed) for candidate in (tuning.table[tuning.key], *tuning.candidates)}
                continue
            for candidate in self._candidates(tuning):
                forget(tuning.case.ours)  # a graph holds the launch that it recorded
                try:
                    if not check(tuning.case, expected) <= tuning.case.tolerance:
                        self._failed[index, candidate] = "wrong"
                except Exception as failed:  # sizes that do not fit are a result too
                    self._failed[index, candidate] = reason(failed)
            del expected
            forget(tuning.case.ours)

    def time(self) -> None:
        """Time, and write a line for each."""
        for index, tuning in enumerate(self._tunings):
            rotation = [] if self._all_failed(index) else rotate(tuning.case)
            for candidate in self._candidates(tuning):
                forget(tuning.case.ours)
                failure = self._failed.get((index, candidate), "")
                ms = None if failure else timed(tuning.case.ours, rotation)[0]
                about = {"name": tuning.name, "shape": tuning.case.shape, "key": str(tuning.key), "candidate": str(candidate)}
                emit("tuned", **about, ms=ms, failure=failure, shipped=candidate == self._shipped)
            del rotation
            forget(tuning.case.ours)

    def _all_failed(self, index: int) -> bool:
        tuning = self._tunings[index]
        return all((index, candidate) in self._failed for candidate in (tuning.table[tuning.key], *tuning.candidates))

    def _candidates(self, tuning: Tuning) -> Iterator[Any]:
        """The sizes one after another, each in the table while it is tried; the shipped ones first."""
        self._shipped = tuning.table[tuning.key]
        try:
            for candidate in dict.fromkeys((self._shipped, *tuning.candidates)):
                tuning.table[tuning.key] = candidate
                yield candidate
        finally:
            tuning.table[tuning.key] = self._shipped


def main(family: str, skip: set[int], tuning: bool, broken: Sequence[list[Any]]) -> None:
    """Do the work of one family, but for the cases ``skip`` that a process before this one has done."""
    module = importlib.import_module(f".{family}", __package__)
    cases = without(module.CASES, broken)
    tuner = Tuner(getattr(module, "TUNINGS", ()))
    checked: list[tuple[float, float] | str] = []
    if tuning:
        tuner.check()
    else:
        checked = warm(cases, skip)
    emit("ready")
    order = json.loads(sys.stdin.readline() or "null")
    if order is None:
        return
    if tuning:
        tuner.time()
        return
    for index, row in rows(cases, checked, Speed(**order), skip):
        emit("row", index=index, row=dataclasses.asdict(row))


if __name__ == "__main__":
    main(sys.argv[1], {int(x) for x in sys.argv[2].split(",") if x}, sys.argv[3] == "tune", json.loads(sys.argv[4]))
