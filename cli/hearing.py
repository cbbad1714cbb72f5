"""One recording or stream through a model: what ``transcribe``, ``translate`` and ``listen`` share."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from .errors import say
from .inputs import standard_input
from .live import Captions
from .options import Search
from .progress import progress

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from riverrun.speech.audio import AudioSource
    from riverrun.speech.model import SpeechModel
    from riverrun.streaming import Stream
    from riverrun.streaming.events import Event, Transcript

ENCODINGS = ("pcm_s16le", "pcm_f32le")
PIECE = 0.1  #: seconds of a file that live hearing takes at a time


def paced(blocks: Iterable[NDArray[np.float32]], sample_rate: int) -> Iterator[NDArray[np.float32]]:
    """The same blocks, each when a microphone would have brought it."""
    due = time.monotonic()
    for block in blocks:
        due += len(block) / sample_rate
        time.sleep(max(due - time.monotonic(), 0))
        yield block


@dataclass(frozen=True)
class Pcm:
    """How the bare samples of standard input are written."""

    encoding: str = ENCODINGS[0]
    sample_rate: int = 16000
    channels: int = 1


class Hearing(ABC):
    """A model, and how it is to hear."""

    @abstractmethod
    def stream(self, sample_rate: int) -> AbstractContextManager[Stream]:
        """A live stream of audio at ``sample_rate``."""

    def whole(self, source: AudioSource, done: Callable[[float], None]) -> Transcript:
        """What is said in an open file; ``done`` is called with the seconds heard so far."""
        transcript, complete = self.blocks(source.blocks(seconds=PIECE), source.sample_rate, done=done)
        if not complete:
            raise KeyboardInterrupt
        return transcript

    def file(self, path: Path, title: str) -> Transcript:
        """Hear a file, with a progress bar called ``title``.

        Raises:
            AudioError: the file cannot be read.
        """
        from riverrun.speech.audio import open_audio

        with open_audio(path) as source:
            with progress(title, source.duration) as done:
                transcript = self.whole(source, done)
            if source.warning:
                say(source.warning)
        return transcript

    def live_file(self, path: Path, captions: Captions, realtime: bool) -> tuple[Transcript, bool]:
        """Hear a file in small pieces with captions, at the pace of the clock or as fast as it goes; returns as `blocks` does.

        Raises:
            AudioError: the file cannot be read.
        """
        from riverrun.speech.audio import open_audio

        with open_audio(path) as source:
            blocks = source.blocks(seconds=PIECE)
            heard = self.blocks(paced(blocks, source.sample_rate) if realtime else blocks, source.sample_rate, captions)
            if source.warning:
                say(source.warning)
        return heard

    def pipe(self, pcm: Pcm, captions: Captions | None = None) -> tuple[Transcript, bool]:
        """Hear standard input as it comes: the transcript, and whether the input was heard to its end."""
        from riverrun.speech.audio import pcm_blocks

        blocks = pcm_blocks(standard_input(), pcm.encoding, pcm.sample_rate, pcm.channels)
        return self.blocks(blocks, pcm.sample_rate, captions)

    def blocks(
        self,
        blocks: Iterable[NDArray[np.float32]],
        sample_rate: int,
        captions: Captions | None = None,
        done: Callable[[float], None] | None = None,
    ) -> tuple[Transcript, bool]:
        """Hear blocks of mono samples (n,) as they come: the transcript, and False if Ctrl-C ended them early."""
        from riverrun.streaming.events import Final, Transcript

        segments: list[Final] = []

        def take(events: Iterable[Event]) -> None:
            for event in events:
                if isinstance(event, Final):
                    segments.append(event)
                if captions:
                    captions.show(event)

        samples, whole = 0, True
        with captions or nullcontext(), self.stream(sample_rate) as stream:
            try:
                for block in blocks:
                    samples += len(block)
                    take(stream.push(block))
                    if done:
                        done(samples / sample_rate)
            except KeyboardInterrupt:
                whole = False
            take(stream.finish())
        return Transcript(tuple(segments), samples / sample_rate), whole


@dataclass(frozen=True)
class Decoding(Hearing):
    """A recogniser; ``latency`` is in milliseconds, ``"full"``, or None for the model's default."""

    model: SpeechModel
    latency: int | Literal["full"] | None = None
    search: Search = Search.greedy
    beam: int = 4

    def whole(self, source: AudioSource, done: Callable[[float], None]) -> Transcript:
        return self.model.transcribe(source, latency_ms=self.latency, search=self.search.value, beam=self.beam, on_progress=done)

    def stream(self, sample_rate: int) -> AbstractContextManager[Stream]:
        return self.model.stream(latency_ms=self.latency, sample_rate=sample_rate, search=self.search.value, beam=self.beam)
