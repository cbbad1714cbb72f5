"""Progress on stderr, where a person watches; nothing at all in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def loading(name: str) -> Iterator[None]:
    """A spinner while model ``name`` is loaded."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status(f"loading model {escape(name)}"):
        yield


@contextmanager
def progress(name: str, seconds: float | None) -> Iterator[Callable[[float], None]]:
    """A bar for one recording of so many seconds (None: unknown), gone when it is done; call the result with the seconds done."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    title, left = TextColumn("{task.description}", markup=False), TimeRemainingColumn(compact=True)
    audio = TextColumn("{task.fields[audio]}")
    console = Console(stderr=True)
    room = max(console.width - 60, 12)
    short = name if len(name) <= room else "…" + name[1 - room :]
    with Progress(title, BarColumn(24), TaskProgressColumn(), audio, left, console=console, transient=True) as bar:
        task = bar.add_task(short, total=seconds, audio="")

        def update(done: float) -> None:
            elapsed = bar.tasks[0].elapsed
            whole = f" of {_clock(seconds)}" if seconds else ""
            speed = f"  {done / elapsed:.1f}x" if elapsed else ""
            bar.update(task, completed=done, audio=_clock(done) + whole + speed)

        yield update


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}" if minutes >= 60 else f"{minutes}:{seconds:02}"
