"""Whole recordings through a stream: what every model that writes down speech can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from riverrun.streaming import Event, Final, Stream, Transcript
from riverrun.streaming.pipeline import as_float

from .audio import AudioSource, open_audio
from .bundle import Latency

Source = str | Path | BinaryIO | AudioSource | npt.NDArray[Any]


class Transcriber(ABC):
    """A model with live streams, and so with transcripts of recordings."""

    @abstractmethod
    def stream(self, *, latency_ms: Latency = None, sample_rate: int = 16000, **options: Any) -> Stream:
        """A live stream of mono audio at ``sample_rate``."""

    def transcribe(
        self,
        source: Source,
        *,
        latency_ms: Latency = None,
        on_progress: Callable[[float], None] | None = None,
        on_event: Callable[[Event], None] | None = None,
        **options: Any,
    ) -> Transcript:
        """Transcribe a recording in memory that does not grow with its length.

        Args:
            source: a path, an open file, an `AudioSource`, or mono samples at 16 kHz.
            latency_ms: as of `stream`; under "full", audio longer than the model takes at once is heard in pieces of that length.
            on_progress: called with the seconds heard so far.
            on_event: called with each event as it comes.
            options: those of `stream`.

        Raises:
            AudioError: the source cannot be read.
        """
        segments: list[Final] = []
        seconds = 0.0

        def take(events: Iterable[Event]) -> None:
            for event in events:
                if isinstance(event, Final):
                    segments.append(event)
                if on_event:
                    on_event(event)

        with self.stream(latency_ms=latency_ms, **options) as stream, blocks_of(source, stream.sample_rate) as blocks:
            for block in blocks:
                take(stream.push(block))
                seconds += len(block) / stream.sample_rate
                if on_progress:
                    on_progress(seconds)
            take(stream.finish())
        return Transcript(tuple(segments), round(seconds, 3))


@contextmanager
def blocks_of(source: Source, sample_rate: int) -> Iterator[Iterable[npt.NDArray[np.float32]]]:
    """Blocks of a source at ``sample_rate``; what was opened here is closed here."""
    if isinstance(source, np.ndarray):
        yield [as_float(source)]
    elif isinstance(source, AudioSource):
        yield source.blocks(sample_rate=sample_rate)
    else:
        with open_audio(source) as opened:
            yield opened.blocks(sample_rate=sample_rate)
