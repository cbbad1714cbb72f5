"""Many sentences spoken by worker processes: a native engine that crashes or hangs costs one sentence, and a run that broke off resumes."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from .engine import Engine, SynthesisError
from .part import Part, whole_lines
from .script import Line
from .voices import Cast
from .worker import ENGINES, Task, work

_CRASHES_IN_A_ROW = 5
_LOADING_S = 60.0  # allowed for, beyond the patience with one sentence, while a worker starts
_CRASHED = 999  # the driver's own part, for sentences that took a worker down


@dataclass(frozen=True)
class Summary:
    """What a finished corpus holds; ``failed`` counts the sentences listed in ``failed.jsonl``."""

    clips: int
    hours: float
    failed: int
    hours_by_engine: dict[str, float]


@dataclass
class _Worker:
    """A process and the position it has reached among its tasks, None before the first."""

    tasks: list[Task]
    process: SpawnProcess
    report: Connection
    current: int | None = None
    since: float = field(default_factory=lambda: time.monotonic() + _LOADING_S)
    crashes: int = 0


class Driver:
    """One run into one folder.

    Args:
        cast: the voices, see `read_cast` and `Cast.choose`.
        root: where the engines' files lie, "/" for installed packages.
        out: the packed corpus to make (`riverrun.recipes.corpora.packed`); clips that an earlier run made in it are kept.
        jobs: worker processes.
        engines: engines by name.
        patience_s: how long one sentence may take before its worker is ended.
    """

    def __init__(
        self,
        cast: Cast,
        root: Path,
        out: Path,
        *,
        jobs: int,
        engines: Mapping[str, Callable[..., Engine]] = ENGINES,
        patience_s: float = 90.0,
    ) -> None:
        if not 1 <= jobs < _CRASHED:
            raise SynthesisError(f"jobs must be 1 to {_CRASHED - 1}, not {jobs}")
        self.cast, self.root, self.out, self.jobs = cast, root.resolve(), out, jobs
        self._engines, self._patience = engines, patience_s
        self._context = multiprocessing.get_context("spawn")

    def run(self, lines: Sequence[Line], *, repeat: int = 1, progress: Callable[[int, int], None] | None = None) -> Summary:
        """Speak every line ``repeat`` times, by voices drawn anew; ``progress(done, of)`` is called now and then.

        Raises:
            SynthesisError: the folder holds another corpus, an engine is missing, or workers crash again and again.
        """
        tasks = [
            Task(turn * len(lines) + index, line.sentence, dict(line.extra)) for turn in range(repeat) for index, line in enumerate(lines)
        ]
        self._claim(tasks)
        if not (self.out / "manifest.jsonl").exists():
            done = {row["id"] for row in (*self._gather("part"), *self._gather("failed"))}
            try:
                self._speak([task for task in tasks if task.id not in done], len(done), progress or (lambda done, of: None))
            finally:
                for scratch in self.out.glob("scratch-*"):
                    shutil.rmtree(scratch)
            self._finish()
        return self._summary()

    def _claim(self, tasks: list[Task]) -> None:
        """Note what the folder is for; refuse to mix two corpora in one."""
        plan = json.dumps([dataclasses.asdict(self.cast), [dataclasses.asdict(task) for task in tasks]])
        digest = hashlib.sha256(plan.encode()).hexdigest()
        self.out.mkdir(parents=True, exist_ok=True)
        note = self.out / "plan.json"
        if not note.exists():
            if any(self.out.iterdir()):
                raise SynthesisError(f"{self.out} holds other files; give an empty or new folder")
            note.write_text(json.dumps({"sha256": digest}) + "\n", encoding="utf-8")
        elif json.loads(note.read_text(encoding="utf-8")) != {"sha256": digest}:
            raise SynthesisError(f"{self.out} holds a corpus of other sentences or voices; give another folder, or delete it")

    def _gather(self, kind: str) -> list[dict[str, Any]]:
        return [row for path in sorted(self.out.glob(f"{kind}-*.jsonl")) for row in whole_lines(path)]

    def _start(self, index: int, tasks: list[Task], crashes: int = 0) -> _Worker:
        receive, send = self._context.Pipe(duplex=False)
        arguments = (index, tasks, self.cast, self.root, self.out, self._engines, send)
        process = self._context.Process(target=work, args=arguments, daemon=True)
        process.start()
        send.close()
        return _Worker(tasks, process, receive, crashes=crashes)

    def _speak(self, tasks: list[Task], done: int, progress: Callable[[int, int], None]) -> None:
        total = done + len(tasks)
        workers = {index: self._start(index, mine) for index in range(self.jobs) if (mine := tasks[index :: self.jobs])}
        try:
            with Part(self.out, _CRASHED) as crashed:
                while workers:
                    wait([worker.report for worker in workers.values()], timeout=1.0)
                    for index, worker in list(workers.items()):
                        if self._listen(worker):
                            continue
                        worker.process.join()
                        del workers[index]
                        left = self._survivors(worker, crashed)
                        if left:
                            workers[index] = self._start(index, left, worker.crashes)
                    progress(total - sum(len(worker.tasks) - (worker.current or 0) for worker in workers.values()), total)
        finally:
            for worker in workers.values():  # all are told before any is waited for: a second Ctrl-C may cut the waiting short
                worker.process.kill()
            for worker in workers.values():
                worker.process.join()

    def _listen(self, worker: _Worker) -> bool:
        """Take in a worker's reports; False when it has ended, by itself or by us after too long a silence."""
        try:
            while worker.report.poll():
                message = worker.report.recv()
                if isinstance(message, str):
                    raise SynthesisError(message)
                if worker.current is not None:
                    worker.crashes = 0
                worker.current, worker.since = message, time.monotonic()
        except (EOFError, ConnectionResetError):
            return False
        if time.monotonic() - worker.since > self._patience:
            worker.process.kill()
        return True

    def _survivors(self, worker: _Worker, crashed: Part) -> list[Task]:
        """What an ended worker leaves to be done; the sentence that took it down is noted and left out."""
        if worker.process.exitcode == 0:
            return []
        worker.crashes += 1
        if worker.current is None or worker.crashes >= _CRASHES_IN_A_ROW:
            raise SynthesisError(
                f"a worker ended {worker.crashes} times in a row (exit code {worker.process.exitcode}); finished clips are kept"
            )
        task = worker.tasks[worker.current]
        crashed.fail(
            {"id": task.id, "sentence": task.sentence, "reason": f"the engine crashed or hung (exit code {worker.process.exitcode})"}
        )
        return worker.tasks[worker.current + 1 :]

    def _finish(self) -> None:
        """Join the parts into ``manifest.jsonl`` and ``failed.jsonl``; the manifest comes last, whole or not at all."""
        clips = {row["id"]: row for row in self._gather("part")}
        failed = {row["id"]: row for row in self._gather("failed") if row["id"] not in clips}
        if not clips:
            reason = next(iter(failed.values()))["reason"] if failed else "there is no sentence"
            raise SynthesisError(f"not one clip was made: {reason}")
        parts = [*self.out.glob("part-*.jsonl"), *self.out.glob("failed-*.jsonl")]
        _write(self.out / "failed.jsonl", failed.values())
        _write(self.out / "manifest.jsonl", (clips[key] for key in sorted(clips)))
        for path in (*parts, self.out / f"audio-{_CRASHED:03d}.raw"):
            path.unlink()

    def _summary(self) -> Summary:
        rows, hours = whole_lines(self.out / "manifest.jsonl"), dict[str, float]()
        for row in rows:
            hours[row["engine"]] = hours.get(row["engine"], 0.0) + row["duration"] / 3600
        return Summary(len(rows), sum(hours.values()), len(whole_lines(self.out / "failed.jsonl")), hours)


def _write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    temporary.replace(path)
