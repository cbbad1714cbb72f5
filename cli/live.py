"""Captions as they come: on a terminal, or one line for each final text in a pipe."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

    from riverrun.streaming.events import Event


class Captions:
    """A context in which ``show`` prints events: final text stays, partial text stands dimmed below it until it is final.

    Args:
        heading: printed first, as it is.
    """

    def __init__(self, heading: str = "") -> None:
        from rich.console import Console
        from rich.live import Live

        self._heading = heading
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, transient=True, auto_refresh=False) if sys.stdout.isatty() else None

    def __enter__(self) -> Captions:
        print(self._heading, end="", flush=True)
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live:
            self._live.stop()

    def show(self, event: Event) -> None:
        """Print one event; endpoints have no text and print nothing."""
        from rich.text import Text

        from riverrun.streaming.events import Final, Partial

        if isinstance(event, Partial) and self._live:
            self._live.update(self._tail(event.text), refresh=True)
        elif isinstance(event, Final):
            if self._live:
                self._live.update(Text(), refresh=True)
            if event.text.strip():
                self._console.print(Text(event.text), soft_wrap=self._live is None)
                self._console.file.flush()

    def _tail(self, text: str) -> Text:
        """The last lines of a partial text, as many as the terminal can redraw."""
        from rich.text import Text

        lines = Text(text, style="dim").wrap(self._console, self._console.width)
        return Text("\n").join(lines[-max(self._console.height - 1, 1) :])
