"""Packed corpora that appear while training runs: found in a folder, read beside training, taken in between two epochs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from .corpus import Part, Source
from .recordings import is_there

log = logging.getLogger(__name__)


class Arrivals:
    """Finds and reads packed corpora.

    Args:
        sources: corpora that stay for good; those that do not exist yet are waited for.
        watch: a folder of which every sub-folder is, or becomes, a packed corpus, or None.
        repeat: how often an epoch holds a corpus of ``watch``.
        read: reads one corpus.
    """

    def __init__(self, sources: Sequence[Source], watch: str | None, repeat: float, read: Callable[[Source], Part]):
        self._waiting, self._watch, self._repeat, self._read = list(sources), watch, repeat, read
        self._seen = {source.path for source in sources}
        self._pool = ThreadPoolExecutor(1, "corpus")
        self._reading: list[tuple[Source, bool, Future[Part]]] = []

    def find(self) -> list[tuple[Source, bool]]:
        """Corpora that are there now and were not before, each with whether it stays for good."""
        here = [source for source in self._waiting if is_there(source.path)]
        self._waiting = [source for source in self._waiting if source not in here]
        found = [(source, True) for source in here]
        if self._watch is not None:
            manifests = sorted(Path(self._watch).glob("*/manifest.jsonl"), key=lambda path: (path.stat().st_mtime, path))
            new = [str(manifest.parent) for manifest in manifests if str(manifest.parent) not in self._seen]
            found += [(Source(path, self._repeat), False) for path in new]
        return found

    def start(self, found: Sequence[tuple[Source, bool]]) -> None:
        """Begin to read corpora beside training."""
        for source, stay in found:
            self._seen.add(source.path)
            self._waiting = [other for other in self._waiting if other.path != source.path]
            self._reading.append((source, stay, self._pool.submit(self._read, source)))

    def count_ready(self) -> int:
        """How many of the oldest reads are over."""
        ready = 0
        while ready < len(self._reading) and self._reading[ready][2].done():
            ready += 1
        return ready

    def take(self, most: int | None = None) -> Iterator[tuple[Part, bool]]:
        """The ``most`` oldest reads, or all, one after another; waits for them. What cannot be read is named in the log and left out."""
        for _ in range(len(self._reading) if most is None else most):
            source, stay, future = self._reading.pop(0)
            try:
                part = future.result()
            except (ValueError, OSError) as error:
                log.warning("%s is left out: %s", source.path, error)
                continue
            for problem in part.skipped:
                log.warning("%s, %s: skipped", source.path, problem)
            if part.left_out or part.skipped:
                log.warning(
                    "%s: %d of %d utterances left out (too long, too short or without text), %d manifest lines skipped",
                    source.path, part.left_out, part.left_out + len(part.samples), len(part.skipped),
                )  # fmt: skip
            yield part, stay
