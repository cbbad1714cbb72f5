"""One worker process: tasks in, clips of its part out."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .errors import CorpusError
from .part import Part


class Task(Protocol):
    """An utterance to be made; its ``repr`` tells it from others, from run to run."""

    @property
    def id(self) -> int | str:
        """Distinct within a run."""
        ...

    @property
    def shown(self) -> dict[str, Any]:
        """What ``skipped.jsonl`` says of it, besides its id and the reason."""
        ...


class Maker(Protocol):
    """Makes clips in one process."""

    def make(self, task: Any) -> tuple[np.ndarray, dict[str, Any]]:
        """The clip, int16 at 16 kHz, and its manifest row without its place: ``id``, ``text``, ``duration`` (s), and more.

        Raises:
            CorpusError: it cannot be made, and is to be left out.
        """
        ...

    def close(self) -> None:
        """Let go of processes and files."""
        ...


Start = Callable[[Path], Maker]


def work(index: int, tasks: Sequence[Task], start: Start, out: Path, report: Connection) -> None:
    """Make ``tasks`` into part ``index`` of ``out``, reporting each task's position before it is begun; a text report is a fatal error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver ends its workers
    scratch = out / f"scratch-{index:03d}"
    scratch.mkdir(exist_ok=True)
    try:
        maker = start(scratch)
    except (CorpusError, OSError) as error:
        report.send(f"cannot start: {error}")
        return
    try:
        with Part(out, index) as part:
            for position, task in enumerate(tasks):
                report.send(position)
                try:
                    clip, row = maker.make(task)
                except CorpusError as error:
                    part.leave({"id": task.id, **task.shown, "reason": str(error)})
                else:
                    part.add(clip, row)
    except BrokenPipeError:
        return  # the driver is gone
    except OSError as error:
        report.send(f"cannot write to {out}: {(error.strerror or str(error)).lower()}")
    finally:
        maker.close()
