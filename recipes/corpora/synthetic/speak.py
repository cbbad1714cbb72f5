"""Lines spoken into a packed corpus."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..driver import Driver, Summary
from .engine import Engine
from .packages import LICENCES
from .script import Line
from .speaker import ENGINES, Speaker, Task
from .voices import Cast


def speak(
    lines: Sequence[Line],
    cast: Cast,
    root: Path,
    out: Path,
    *,
    jobs: int,
    repeat: int = 1,
    about: Mapping[str, Any],
    skipped: Sequence[dict[str, Any]] = (),
    engines: Mapping[str, Callable[..., Engine]] = ENGINES,
    patience_s: float = 90.0,
    progress: Callable[[int, int], None] | None = None,
) -> Summary:
    """Speak every line ``repeat`` times, by voices drawn anew.

    Args:
        lines: what to speak.
        cast: the voices, see `read_cast` and `Cast.choose`.
        root: where the engines' files lie, "/" for installed packages.
        out: the packed corpus to make; clips that an earlier run made in it are kept.
        jobs: worker processes.
        repeat: clips per line.
        about: what ``about.json`` is to say of the text.
        skipped: what was left out before, for ``skipped.jsonl``.
        engines: engines by name.
        patience_s: how long one sentence may take before its worker is ended.
        progress: called with (done, of) now and then.

    Raises:
        CorpusError: the folder holds another corpus, an engine is missing, or workers crash again and again.
    """
    tasks = [Task(turn * len(lines) + index, line.sentence, line.extra) for turn in range(repeat) for index, line in enumerate(lines)]
    voices = hashlib.sha256(repr(dataclasses.astuple(cast)).encode()).hexdigest()
    driver = Driver(out, {"corpus": "synthetic", "voices": voices}, jobs=jobs, patience_s=patience_s)
    spoken = {"name": "synthetic", "language": cast.language, "voices": [voice.id for voice in cast.voices], "licence": _licence(cast)}
    start = partial(Speaker, cast, root.resolve(), engines)
    return driver.run(tasks, start, about={**spoken, "text": about}, skipped=skipped, progress=progress)


def _licence(cast: Cast) -> str:
    used = sorted({voice.engine for voice in cast.voices})
    return f"speech by {', '.join(LICENCES.get(name, name) for name in used)}; of the text: see there"
