"""Captions as they come: on a terminal, or one line for each final text in a pipe."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from rich.text import Text

    from riverrun.streaming.events import Event, Partial

_BAR = 20  #: cells of the level meter
_FLOOR, _LOUD, _CLIPPING = -60.0, -12.0, -1.0  #: levels in dB: the meter's left end, and where it turns yellow and red
_REDRAW = 0.1  #: seconds between drawings of the meter
_MUTED = 3.0  #: seconds of digital silence, after which a microphone is probably switched off


class Captions:
    """A context in which ``show`` prints events: final text stays, partial text stands below it until it is final.

    Of partial text, what will not be revised is solid, the rest dimmed. ``meter`` shows the level of a microphone below.

    Args:
        heading: printed first, as it is.
    """

    def __init__(self, heading: str = "") -> None:
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        self._heading = heading
        self._console = Console(highlight=False)
        self._live = Live(console=self._console, transient=True, auto_refresh=False) if sys.stdout.isatty() else None
        self._partial, self._gauge = Text(), Text()
        self._heard = self._silent = self._drawn = 0.0
        self._peak = _FLOOR

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

        if isinstance(event, Partial):
            self._partial = _styled(event)
            self._draw()
        elif isinstance(event, Final):
            self._partial = Text()
            self._draw()
            if event.text.strip():
                self._console.print(Text(event.text), soft_wrap=self._live is None)
                self._console.file.flush()

    def meter(self, block: NDArray[np.float32], sample_rate: int) -> None:
        """Show the level of a block (n,) of a microphone's sound; on a terminal only."""
        from riverrun.streaming.microphone import level_db

        seconds = len(block) / sample_rate
        self._heard += seconds
        self._silent = 0.0 if block.any() else self._silent + seconds
        self._peak = max(self._peak, level_db(block))
        if self._live and time.monotonic() - self._drawn >= _REDRAW:
            self._gauge = gauge(self._peak, self._heard, self._silent >= _MUTED)
            self._peak, self._drawn = _FLOOR, time.monotonic()
            self._draw()

    def _draw(self) -> None:
        """Redraw what stands below the final text: of the partial text, as many of its last lines as there is room for."""
        from rich.text import Text

        if self._live:
            room = max(self._console.height - 1 - bool(self._gauge), 1)
            lines = list(self._partial.wrap(self._console, self._console.width))[-room:]
            self._live.update(Text("\n").join([*lines, *([self._gauge] if self._gauge else [])]), refresh=True)


def gauge(level: float, seconds: float, muted: bool = False) -> Text:
    """A line with how long and how loud: ``level`` in dB of full scale."""
    from rich.text import Text

    cells = round(_BAR * min(max(1 - level / _FLOOR, 0.0), 1.0))
    colour = "red" if level >= _CLIPPING else "yellow" if level >= _LOUD else "green"
    minutes, rest = divmod(int(seconds), 60)
    line = Text().append(f"{minutes}:{rest:02} ", style="dim")
    line.append("━" * cells, style=colour).append("━" * (_BAR - cells), style="bright_black")
    if muted:
        return line.append(" silence: is the microphone switched off?", style="yellow")
    return line.append(f" {max(level, _FLOOR):3.0f} dB", style="dim")


def _styled(event: Partial) -> Text:
    from rich.text import Text

    stable: int = getattr(event, "stable", 0)
    return Text(event.text[:stable]).append(event.text[stable:], style="dim")
