"""A model that hears one word every half second, and a command line that loads it. Run as a script for terminals and pipes."""

from __future__ import annotations

import contextlib
import os
import time

import numpy as np

import riverrun.speech
from riverrun.cli.main import main
from riverrun.speech.bundle import BundleError
from riverrun.streaming.events import Endpoint, Final, Partial, Transcript, Word

WORDS = ("one", "two", "three", "four")
STEP, DELAY = 0.5, 0.32
PAUSE = float(os.environ.get("FAKE_PAUSE", "0"))  # seconds of real time for each push


class FakeStream:
    """Word i is spoken in [i/2, i/2 + 0.4) s and first seen 0.32 s after its end, as part of a longer wrong guess; four make a segment."""

    def __init__(self, sample_rate: int):
        self.rate, self.samples, self.words, self.segment, self.ended = sample_rate, 0, [], 0, False
        self.count = 0

    def _word(self, i: int) -> Word:
        return Word(WORDS[i % 4], i * STEP, i * STEP + 0.4, 0.9)

    def _final(self):
        words, self.words = tuple(self.words), []
        self.segment += 1
        return Final(self.segment - 1, " ".join(w.text for w in words), words, words[0].start, words[-1].end)

    def push(self, samples):
        time.sleep(PAUSE)
        assert samples.ndim == 1 and samples.dtype == np.float32
        self.samples += len(samples)
        events = []
        while self._word(self.count).end + DELAY <= self.samples / self.rate:
            self.words.append(self._word(self.count))
            self.count += 1
            events.append(Partial(self.segment, " ".join(w.text for w in self.words), tuple(self.words)))
            if len(self.words) == 4:
                events += [Endpoint(self.segment, self.words[-1].end, "pause"), self._final()]
        return events

    def finish(self):
        while self._word(self.count).end <= self.samples / self.rate:
            self.words.append(self._word(self.count))
            self.count += 1
        return [self._final()] if self.words else []


class FakeModel:
    card = "# fake\n\nA model that hears what it *likes*.\n"
    info = {"name": "fake", "parameters": 1234567, "languages": ["en"], "latencies_ms": [160, 320], "errors": {"test": 0.5}}

    def transcribe(self, source, *, latency_ms=None, search="greedy", beam=4, on_progress=None, on_event=None):
        segments, seconds = [], 0.0
        with self.stream(sample_rate=source.sample_rate) as stream:
            for block in [*source.blocks(seconds=0.1), None]:
                for event in stream.finish() if block is None else stream.push(block):
                    segments += [event] if isinstance(event, Final) else []
                    if on_event:
                        on_event(event)
                seconds += 0 if block is None else len(block) / source.sample_rate
                if on_progress:
                    on_progress(seconds)
        return Transcript(tuple(segments), seconds)

    def stream(self, *, latency_ms=None, sample_rate=16000, search="greedy", beam=4):
        if latency_ms not in (None, "full") and latency_ms % 40:
            raise ValueError(f"latency must be a multiple of 40 ms, or 'full', not {latency_ms}")
        return contextlib.nullcontext(FakeStream(sample_rate))


def load(name: str, device: str = "cpu") -> FakeModel:
    if name not in ("default", "fake"):
        raise BundleError(f"unknown model {name!r}: give a bundle's folder or one of default, fake")
    return FakeModel()


if __name__ == "__main__":
    riverrun.speech.load = load
    main()
