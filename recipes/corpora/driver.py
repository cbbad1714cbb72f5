"""Many utterances made by worker processes: one that crashes or hangs costs one utterance, and a run that broke off resumes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import multiprocessing
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from .errors import CorpusError
from .files import write_json, write_lines, write_rows
from .part import Part, whole_line_texts, whole_lines
from .worker import Start, Task, work

_CRASHES_IN_A_ROW = 5
_LOADING_S = 60.0  # allowed for, beyond the patience with one utterance, while a worker starts
_GATHER_S = 0.02  # many workers report thousands of times a second: listening to all of them at each report would take a core
_CRASHED = 999  # the driver's own part, for utterances that took a worker down


@dataclass(frozen=True)
class Summary:
    """What a finished corpus holds; ``skipped`` counts the utterances listed in ``skipped.jsonl``."""

    clips: int
    hours: float
    skipped: int
    speakers: int

    def __str__(self) -> str:
        return f"{self.clips} utterances, {self.hours:.2f} h, speakers: {self.speakers}; {self.skipped} skipped"


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
    """One run into one folder, which is claimed for it: ``plan.json`` says what it is for.

    Args:
        out: the packed corpus to make (`riverrun.recipes.corpora.packed`); clips that an earlier run made in it are kept.
        settings: what, with the tasks, makes this corpus another one than one with other settings (JSON).
        jobs: worker processes.
        patience_s: how long one utterance may take before its worker is ended.

    Raises:
        CorpusError: the folder holds another corpus, or other files.
    """

    def __init__(self, out: Path, settings: Any, *, jobs: int, patience_s: float = 90.0) -> None:
        if not 1 <= jobs < _CRASHED:
            raise CorpusError(f"jobs must be 1 to {_CRASHED - 1}, not {jobs}")
        self.out, self._jobs, self._patience = out, jobs, patience_s
        self._context = multiprocessing.get_context("spawn")
        self._claim({"settings": json.loads(json.dumps(settings))})

    def _claim(self, plan: dict[str, Any]) -> None:
        """Note what the folder is for; refuse to mix two corpora in one."""
        note = self.out / "plan.json"
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            names = {path.name for path in self.out.iterdir()}
            if names and note.name not in names:
                raise CorpusError(f"{self.out} holds other files; give an empty or new folder")
            known = json.loads(note.read_text(encoding="utf-8")) if names else {}
            begun = names - {note.name, "lock"}
            if begun and any(known.get(key, value) != value for key, value in plan.items()):
                raise CorpusError(f"{self.out} holds a corpus of other utterances or settings; give another folder, or delete it")
            if known | plan != known:
                write_json(note, known | plan)
        except OSError as error:
            raise CorpusError(f"{self.out}: {(error.strerror or str(error)).lower()}") from None

    @property
    def finished(self) -> bool:
        """Whether the corpus is complete."""
        return (self.out / "manifest.jsonl").exists()

    def run(
        self,
        tasks: Sequence[Task],
        start: Start,
        *,
        about: Mapping[str, Any],
        skipped: Sequence[dict[str, Any]] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> Summary:
        """Make every task's clip.

        Args:
            tasks: with distinct ids; the manifest keeps their order.
            start: called in each worker with a scratch folder, it gives what makes the clips.
            about: licence, source and whatever else ``about.json`` is to say beside the totals.
            skipped: what was left out before, for ``skipped.jsonl``.
            progress: called with (done, of) now and then.

        Raises:
            CorpusError: the folder holds another corpus, another run is at work in it, it cannot be written to, nothing could be made,
                or workers crash again and again.
        """
        try:
            return self._run(tasks, start, about, skipped, progress or (lambda done, of: None))
        except OSError as error:
            raise CorpusError(f"cannot write to {self.out}: {(error.strerror or str(error)).lower()}") from None

    def _run(
        self,
        tasks: Sequence[Task],
        start: Start,
        about: Mapping[str, Any],
        skipped: Sequence[dict[str, Any]],
        progress: Callable[[int, int], None],
    ) -> Summary:
        self._claim({"sha256": _digest(tasks)})
        with (self.out / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CorpusError(f"{self.out}: another run is at work in it") from None
            if not self.finished:
                done = {row["id"] for row in (*self._gather("part"), *self._gather("left"))}
                try:
                    self._make([task for task in tasks if task.id not in done], start, len(done), progress)
                finally:
                    for scratch in self.out.glob("scratch-*"):
                        shutil.rmtree(scratch, ignore_errors=True)
                self._finish(tasks, about, skipped)
        return self.summary()

    def _gather(self, kind: str) -> list[dict[str, Any]]:
        return [row for path in sorted(self.out.glob(f"{kind}-*.jsonl")) for row in whole_lines(path)]

    def _start(self, index: int, tasks: list[Task], start: Start, crashes: int = 0) -> _Worker:
        receive, send = self._context.Pipe(duplex=False)
        process = self._context.Process(target=work, args=(index, tasks, start, self.out, send), daemon=True)
        with _one_thread():
            process.start()
        send.close()
        return _Worker(tasks, process, receive, crashes=crashes)

    def _make(self, tasks: list[Task], start: Start, done: int, progress: Callable[[int, int], None]) -> None:
        total = done + len(tasks)
        workers = {index: self._start(index, mine, start) for index in range(self._jobs) if (mine := tasks[index :: self._jobs])}
        try:
            with Part(self.out, _CRASHED) as crashed:
                while workers:
                    wait([worker.report for worker in workers.values()], timeout=1.0)
                    time.sleep(_GATHER_S)
                    for index, worker in list(workers.items()):
                        if self._listen(worker):
                            continue
                        worker.process.join()
                        del workers[index]
                        left = self._survivors(worker, crashed)
                        if left:
                            workers[index] = self._start(index, left, start, worker.crashes)
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
                    raise CorpusError(message)
                if worker.current is not None:
                    worker.crashes = 0
                worker.current, worker.since = message, time.monotonic()
        except (EOFError, ConnectionResetError):
            return False
        if time.monotonic() - worker.since > self._patience:
            worker.process.kill()
        return True

    def _survivors(self, worker: _Worker, crashed: Part) -> list[Task]:
        """What an ended worker leaves to be done; the utterance that took it down is noted and left out."""
        if worker.process.exitcode == 0:
            return []
        worker.crashes += 1
        if worker.current is None or worker.crashes >= _CRASHES_IN_A_ROW:
            raise CorpusError(
                f"a worker ended {worker.crashes} times in a row (exit code {worker.process.exitcode}); finished clips are kept"
            )
        task = worker.tasks[worker.current]
        crashed.leave({"id": task.id, **task.shown, "reason": f"its worker crashed or hung (exit code {worker.process.exitcode})"})
        return worker.tasks[worker.current + 1 :]

    def _finish(self, tasks: Sequence[Task], about: Mapping[str, Any], skipped: Sequence[dict[str, Any]]) -> None:
        """Join the parts into ``manifest.jsonl``, which comes last, whole or not at all; before it ``skipped.jsonl``, ``about.json``."""
        clips, seconds, speakers, engines = dict[Any, str](), 0.0, set[str | None](), dict[str, float]()
        for line in (line for path in sorted(self.out.glob("part-*.jsonl")) for line in whole_line_texts(path)):
            row = json.loads(line)
            clips[row["id"]] = line
            seconds += row["duration"]
            speakers |= {row["speaker"]} - {None}
            if "engine" in row:
                engines[row["engine"]] = engines.get(row["engine"], 0.0) + row["duration"] / 3600
        left = {row["id"]: row for row in self._gather("left") if row["id"] not in clips}
        skips = [*skipped, *left.values()]
        if not clips:
            self._let_go()
            raise CorpusError(f"not one utterance could be used: {skips[0]['reason'] if skips else 'there is none'}")
        parts = [*self.out.glob("part-*.jsonl"), *self.out.glob("left-*.jsonl")]
        write_rows(self.out / "skipped.jsonl", skips)
        totals = {"utterances": len(clips), "hours": round(seconds / 3600, 4), "skipped": len(skips), "speakers": len(speakers)}
        hours = {"hours_by_engine": {name: round(hours, 4) for name, hours in sorted(engines.items())}} if engines else {}
        lines = [clips[task.id] for task in tasks if task.id in clips]
        digest = hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()
        write_json(self.out / "about.json", {**about, **totals, **hours, "manifest_sha256": digest})
        write_lines(self.out / "manifest.jsonl", lines)
        for path in (*parts, self.out / f"audio-{_CRASHED:03d}.raw"):
            path.unlink()

    def _let_go(self) -> None:
        """Clear a folder that holds nothing of worth, so that other settings can be tried in it."""
        for pattern in ("part-*.jsonl", "left-*.jsonl", "audio-*.raw"):
            for path in self.out.glob(pattern):
                path.unlink()

    def summary(self) -> Summary:
        """What the finished corpus holds."""
        about = json.loads((self.out / "about.json").read_text(encoding="utf-8"))
        return Summary(about["utterances"], about["hours"], about["skipped"], about["speakers"])


def _digest(tasks: Iterable[Task]) -> str:
    digest = hashlib.sha256()
    for task in tasks:
        digest.update(f"{task!r}\n".encode())
    return digest.hexdigest()


@contextmanager
def _one_thread() -> Iterator[None]:
    """While this lasts, a process that is started keeps numpy's and OpenMP's pools to one thread: the work is parted by processes."""
    before = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    os.environ.update(dict.fromkeys(before, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
