"""Many streams through one scheduler: each says what it would say alone, whatever the others do."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from riverrun.speech.audio import Resampler
from riverrun.speech.model import SpeechModel
from riverrun.speech.recognizer import StreamingRecognizer
from riverrun.streaming import Event, Final, Partial, StateError, Stream
from riverrun.streaming.endpoint import EndpointConfig, standard_rules
from riverrun.streaming.scheduler import Flushed, Lag, LiveStream, Refused, Saved, Scheduler, SchedulerConfig, StreamFailed, Tick
from riverrun.streaming.scheduler.slots import Slots

from ..tiny import tiny_model

OPEN = SchedulerConfig(
    utilisation=math.inf, late_s=math.inf, shed="none", batch_s=1e-9
)  # one chunk a step, so that partial texts can be compared, too


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> SpeechModel:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def recognizer(speech: SpeechModel) -> StreamingRecognizer:
    return speech.recognizer(320, endpoints=EndpointConfig(standard_rules(0.6, 0.3, 2.0), pause_s=0.2))


def noise(seconds: float, seed: int, rate: int = 16000) -> np.ndarray:
    random = np.random.default_rng(seed)
    n = int(seconds * rate)
    loud = np.repeat(random.random(n // (rate // 10) + 1) > 0.3, rate // 10)[:n]
    return (random.normal(0, 0.1, n) * loud * np.sin(np.arange(n) * random.uniform(0.05, 0.5))).astype(np.float32)


def alone(recognizer: StreamingRecognizer, audio: np.ndarray, rate: int = 16000) -> list[Event]:
    """Events of a stream that steps one chunk at a time."""
    stream = Stream(recognizer, Resampler(rate, 16000) if rate != 16000 else None)
    pieces = [audio[i : i + 800] for i in range(0, len(audio), 800)]
    return [e for piece in pieces for e in stream.push(piece)] + stream.finish()


def rounded(event: Event) -> Event:
    """An event whose confidences compare within rounding: batches add in another order."""
    if isinstance(event, Partial | Final):
        words = tuple(type(w)(w.text, w.start, w.end, pytest.approx(w.confidence, abs=2e-4)) for w in event.words)
        return type(event)(**{**event.__dict__, "words": words})
    return event


def durable(items: list) -> list[Event]:
    return [rounded(e) for e in items if isinstance(e, Event) and not isinstance(e, Partial)]


async def collect(stream: LiveStream) -> list:
    return [item async for item in stream]


async def speak(stream: LiveStream, audio: np.ndarray, random: np.random.Generator, pause: float = 0.0) -> None:
    at = 0
    while at < len(audio):
        size = int(random.choice([1, 737, 4000, 20000]))
        await stream.push(audio[at : at + size])
        at += size
        await asyncio.sleep(random.random() * pause)
    await stream.finish()


@asynccontextmanager
async def running(recognizer: object, config: SchedulerConfig = OPEN, **options: object) -> AsyncIterator[Scheduler]:
    async with Scheduler(recognizer, config, **options) as scheduler:  # type: ignore[arg-type]
        yield scheduler


@pytest.mark.parametrize("recorded", [False, True])
def test_each_stream_says_what_it_says_alone(recognizer: StreamingRecognizer, recorded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """``recorded``: grouped and filled up as for a GPU, though there is none."""
    monkeypatch.setattr(Slots, "recorded", recorded)
    audios = [noise(0.05 + 0.5 * i, i, rate) for i, rate in enumerate([16000, 8000, 44100] * 4)]
    rates = [16000, 8000, 44100] * 4

    async def main() -> list[list]:
        async with running(recognizer, replace(OPEN, outbox=10**6)) as scheduler:
            streams = [scheduler.open(Resampler(rate, 16000) if rate != 16000 else None) for rate in rates]
            heard = [asyncio.create_task(collect(s)) for s in streams]
            rng = [np.random.default_rng(i) for i in range(len(audios))]
            await asyncio.gather(*(speak(s, a, r, 0.01) for s, a, r in zip(streams, audios, rng, strict=True)))
            return await asyncio.gather(*heard)

    for said, audio, rate in zip(asyncio.run(main()), audios, rates, strict=True):
        assert durable(said) == durable(alone(recognizer, audio, rate))
        if len(audio) > rate:
            assert any(isinstance(e, Final) and e.text for e in said)


def test_partial_texts_are_those_of_a_stream_alone(recognizer: StreamingRecognizer) -> None:
    audios = [noise(2.0, 100 + i) for i in range(5)]

    async def main() -> list[list]:
        async with running(recognizer) as scheduler:
            streams = [scheduler.open() for _ in audios]
            heard = [asyncio.create_task(collect(s)) for s in streams]
            for at in range(0, 32000, 1600):
                for stream, audio in zip(streams, audios, strict=True):
                    await stream.push(audio[at : at + 1600])
                while any(s.ready for s in streams):
                    await asyncio.sleep(0.001)
            for stream in streams:
                await stream.finish()
            return await asyncio.gather(*heard)

    for said, audio in zip(asyncio.run(main()), audios, strict=True):
        assert [rounded(e) for e in said] == [rounded(e) for e in alone(recognizer, audio)]


def test_slots_are_used_again_and_leaving_touches_no_other(recognizer: StreamingRecognizer) -> None:
    audio = noise(2.0, 7)

    async def main() -> list[list]:
        said = []
        async with running(recognizer, SchedulerConfig(max_streams=2, utilisation=math.inf)) as scheduler:
            for i in range(4):
                stayer, leaver = scheduler.open(), scheduler.open()
                with pytest.raises(Refused, match="2 streams are open"):
                    scheduler.open()
                heard = asyncio.create_task(collect(stayer))
                await leaver.push(noise(1.0, i))
                task = asyncio.create_task(speak(stayer, audio, np.random.default_rng(i), 0.002))
                await asyncio.sleep(0.003 * i)
                leaver.close()
                with pytest.raises(StreamFailed):
                    await collect(leaver)
                await task
                said.append(await heard)
                assert scheduler.streams == 0
                assert max(s.slot for s in (stayer, leaver)) <= 2
        return said

    for said in asyncio.run(main()):
        assert durable(said) == durable(alone(recognizer, audio))


def test_saved_streams_go_on_in_another_scheduler_and_in_a_stream(recognizer: StreamingRecognizer) -> None:
    audio = noise(5.0, 11, 8000)
    whole = durable(alone(recognizer, audio, 8000))

    async def first() -> tuple[list[Event], Saved]:
        async with running(recognizer) as scheduler:
            stream = scheduler.open(Resampler(8000, 16000), save_every_s=1.0)
            events: list = []
            for at in range(0, len(audio), 700):
                await stream.push(audio[at : at + 700])
            async for item in stream:
                events.append(item)
                if isinstance(item, Saved) and item.samples > 20000:
                    return events, item
        raise AssertionError("the stream was not saved")

    async def second(saved: Saved) -> list:
        async with running(recognizer) as scheduler:
            with pytest.raises(StateError):
                scheduler.open(saved=b"damaged")
            stream = scheduler.open(Resampler(8000, 16000), saved=saved.data)
            heard = asyncio.create_task(collect(stream))
            await stream.push(audio[saved.samples :])
            await stream.finish()
            return await heard

    before, saved = asyncio.run(first())
    assert durable(before) + durable(asyncio.run(second(saved))) == whole
    stream = Stream(recognizer, Resampler(8000, 16000))
    stream.restore(saved.data)
    assert durable(before) + durable(stream.push(audio[saved.samples :]) + stream.finish()) == whole


@pytest.mark.parametrize("recorded", [False, True])
def test_a_predictor_that_remembers_all_labels_is_saved_with_its_stream(
    recorded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Slots, "recorded", recorded)
    recognizer = tiny_model(tmp_path, transducer="lstm").recognizer(320)
    audios = [noise(1.3 + 0.4 * i, 70 + i) for i in range(5)]

    async def main() -> list[list]:
        async with running(recognizer) as scheduler:
            streams = [scheduler.open(save_every_s=0.7) for _ in audios]
            heard = [asyncio.create_task(collect(s)) for s in streams]
            rng = [np.random.default_rng(i) for i in range(len(audios))]
            await asyncio.gather(*(speak(s, a, r, 0.01) for s, a, r in zip(streams, audios, rng, strict=True)))
            return await asyncio.gather(*heard)

    async def resumed(saved: Saved, audio: np.ndarray) -> list:
        async with running(recognizer) as scheduler:
            stream = scheduler.open(saved=saved.data)
            await stream.push(audio[saved.samples :])
            await stream.finish()
            return await collect(stream)

    for said, audio in zip(asyncio.run(main()), audios, strict=True):
        whole = alone(recognizer, audio)
        assert any(isinstance(e, Final) and e.text for e in whole)
        assert durable(said) == durable(whole)
        for at in [i for i, item in enumerate(said) if isinstance(item, Saved)][:2]:
            assert durable(said[:at]) + durable(asyncio.run(resumed(said[at], audio))) == durable(whole)


@pytest.mark.parametrize("recorded", [False, True])
def test_flush_gives_all_words_so_far_and_changes_nothing(
    recognizer: StreamingRecognizer, recorded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Slots, "recorded", recorded)
    audio = noise(4.0, 5, 44100)
    cut = len(audio) // 2 + 123

    def text(events: list[Event]) -> str:
        return " ".join(e.text for e in events if isinstance(e, Final))

    async def main() -> list:
        async with running(recognizer) as scheduler:
            stream = scheduler.open(Resampler(44100, 16000))
            heard = asyncio.create_task(collect(stream))
            await stream.push(audio[:cut])
            await stream.flush("here")
            await stream.push(audio[cut:])  # does not belong to the flush, though it may be there before the flush is taken
            await stream.flush("end")
            await stream.finish()
            return await heard

    said = asyncio.run(main())
    assert durable(said) == durable(alone(recognizer, audio, 44100))
    here = said.index(Flushed("here"))
    so_far = [e for e in said[:here] if isinstance(e, Final)] + [said[here - 1]]
    assert " ".join(e.text for e in so_far if e.text) == text(alone(recognizer, audio[:cut], 44100))
    end = said.index(Flushed("end"))
    so_far = [e for e in said[:end] if isinstance(e, Final)] + [said[end - 1]]
    assert " ".join(e.text for e in so_far if e.text) == text(said)


class Slow:
    """A recogniser that takes its time."""

    def __init__(self, inner: StreamingRecognizer, seconds: float):
        self.inner, self.seconds = inner, seconds
        self.sample_rate, self.chunk, self.delay = inner.sample_rate, inner.chunk, inner.delay
        self.init_state, self.flush, self.reader = inner.init_state, inner.flush, inner.reader

    def step(self, *arguments: object) -> object:
        time.sleep(self.seconds)
        return self.inner.step(*arguments)  # type: ignore[arg-type]


class Broken(Slow):
    """A recogniser that cannot stand loud audio."""

    def step(self, audio: object, *rest: object) -> object:
        if audio.max() > 5:  # type: ignore[attr-defined]
            raise RuntimeError("too loud")
        return self.inner.step(audio, *rest)  # type: ignore[arg-type]


def test_audio_from_a_file_yields_to_live_audio(recognizer: StreamingRecognizer) -> None:
    live_audio = noise(1.6, 3)

    async def main() -> tuple[float, list[Tick]]:
        ticks: list[Tick] = []
        async with running(Slow(recognizer, 0.02), SchedulerConfig(utilisation=math.inf), observe=ticks.append) as scheduler:
            files = [scheduler.open() for _ in range(3)]
            sending = [asyncio.create_task(speak(s, noise(30.0, i), np.random.default_rng(i))) for i, s in enumerate(files)]
            await asyncio.sleep(0.2)
            live = scheduler.open()
            worst = 0.0
            for at in range(0, len(live_audio), 1600):
                await live.push(live_audio[at : at + 1600])
                began = time.monotonic()
                while live.ready:
                    await asyncio.sleep(0.001)
                worst = max(worst, time.monotonic() - began)
            for task in sending:
                task.cancel()
            return worst, ticks

    worst, ticks = asyncio.run(main())
    assert worst < 0.6
    assert max(t.streams for t in ticks) > 1


def test_a_sender_too_far_ahead_waits(recognizer: StreamingRecognizer) -> None:
    async def main() -> tuple[float, float]:
        config = SchedulerConfig(utilisation=math.inf, queue_s=1.0, ahead_s=0.5)
        async with running(recognizer, config) as scheduler:
            stream = scheduler.open()
            heard = asyncio.create_task(collect(stream))
            began, most = time.monotonic(), 0.0
            for _ in range(12):
                await stream.push(np.zeros(1600, np.float32))
                most = max(most, stream.queued)
            took = time.monotonic() - began
            await stream.finish()
            await heard
            return took, most

    took, most = asyncio.run(main())
    assert 0.4 < took < 2.0  # 1.2 s of audio, half a second ahead of its time
    assert most <= 1.2

    async def queue() -> float:
        async with running(Slow(recognizer, 0.05), replace(OPEN, queue_s=0.5)) as scheduler:
            stream, most = scheduler.open(), 0.0
            for _ in range(40):
                await stream.push(np.zeros(1600, np.float32))
                most = max(most, stream.queued)
            stream.close()
            return most

    assert 0.5 < asyncio.run(queue()) <= 0.7


def test_a_stream_behind_real_time_says_so_and_no_more_are_taken(recognizer: StreamingRecognizer) -> None:
    async def main() -> list:
        config = SchedulerConfig(utilisation=math.inf, lag_s=0.1, batch_s=1e-9)
        async with running(Slow(recognizer, 0.5), config) as scheduler:
            stream = scheduler.open()
            heard = asyncio.create_task(collect(stream))
            for _ in range(10):
                await stream.push(np.zeros(1600, np.float32))
                await asyncio.sleep(0.1)
            with pytest.raises(Refused, match="behind real time"):
                scheduler.open()
            await stream.finish()
            return await heard

    lags = [item.seconds for item in asyncio.run(main()) if isinstance(item, Lag)]
    assert lags and lags[0] > 0.1


def test_admission_goes_by_the_measured_step_time(recognizer: StreamingRecognizer) -> None:
    async def main() -> tuple[int, int]:
        async with running(Slow(recognizer, 0.01), SchedulerConfig(max_streams=8)) as fast:
            pass
        async with running(Slow(recognizer, 0.4), SchedulerConfig(max_streams=8)) as slow:
            with pytest.raises(Refused) as refused:
                slow.open()
            assert refused.value.code == "busy"
            return fast.capacity, slow.capacity

    capacity, none = asyncio.run(main())
    assert capacity >= 1
    assert none == 0


def test_what_breaks_on_one_stream_ends_that_stream_alone(recognizer: StreamingRecognizer) -> None:
    audio = noise(2.0, 21)

    async def main() -> list[list]:
        async with running(Broken(recognizer, 0)) as scheduler:
            streams = [scheduler.open() for _ in range(3)]
            heard = [asyncio.create_task(collect(s)) for s in streams]
            loud = scheduler.open()
            await asyncio.gather(
                *(speak(s, audio, np.random.default_rng(i)) for i, s in enumerate(streams)), loud.push(np.full(8000, 9, np.float32))
            )
            with pytest.raises(StreamFailed, match="RuntimeError"):
                await collect(loud)
            nan = scheduler.open()
            with pytest.raises(ValueError, match="NaN"):
                await nan.push(np.full(10, np.nan, np.float32))
            return await asyncio.gather(*heard)

    for said in asyncio.run(main()):
        assert durable(said) == durable(alone(recognizer, audio))


def test_events_that_no_one_reads_end_the_stream(recognizer: StreamingRecognizer) -> None:
    async def main() -> None:
        async with running(recognizer, replace(OPEN, outbox=2)) as scheduler:
            stream = scheduler.open()
            with pytest.raises(StreamFailed, match="not read"):
                for i in range(100):
                    await stream.push(noise(1.0, i))
                    await asyncio.sleep(0.01)

    asyncio.run(main())
