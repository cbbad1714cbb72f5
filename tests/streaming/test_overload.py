"""What the scheduler does when there is too much to do: it says so, refuses, and gives up streams by a rule, never silently."""

import asyncio

import numpy as np
import pytest

from riverrun.speech.model import SpeechModel
from riverrun.speech.recognizer import StreamingRecognizer
from riverrun.streaming import Final, Stream
from riverrun.streaming.scheduler import Flushed, Lag, Refused, Saved, SchedulerConfig, StreamFailed
from riverrun.streaming.vad import SileroVad, VadError

from ..tiny import tiny_model
from .test_scheduler import Slow, collect, durable, noise, running

PATIENT = SchedulerConfig(utilisation=float("inf"), late_s=float("inf"), shed="none")


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> SpeechModel:
    return tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def recognizer(speech: SpeechModel) -> StreamingRecognizer:
    return speech.recognizer(320)


@pytest.mark.parametrize("shed", ["newest", "none"])
def test_the_newest_stream_is_given_up_if_any_is(recognizer: StreamingRecognizer, shed: str) -> None:
    audio = noise(3.2, 5)

    async def main() -> tuple[list, list, list]:
        config = SchedulerConfig(utilisation=float("inf"), batch_s=1e-9, late_s=0.2, lag_s=0.3, shed_s=0.4, shed=shed)  # type: ignore[arg-type]
        async with running(Slow(recognizer, 0.4), config) as scheduler:
            old, new = scheduler.open(save_every_s=0.5), scheduler.open(save_every_s=0.5)
            heard = [asyncio.create_task(collect(stream)) for stream in (old, new)]

            async def speak(stream: object) -> None:
                for at in range(0, len(audio), 1600):
                    await stream.push(audio[at : at + 1600])  # type: ignore[attr-defined]
                    await asyncio.sleep(0.1)
                await stream.finish()  # type: ignore[attr-defined]

            tasks = await asyncio.gather(speak(old), speak(new), return_exceptions=True)
            with pytest.raises(Refused, match="behind real time"):
                scheduler.open()
            results = await asyncio.gather(*heard, return_exceptions=True)
            return [results[0]], [results[1]], list(tasks)

    [old], [new], pushed = asyncio.run(main())
    stream = Stream(recognizer)
    want = durable(stream.push(audio) + stream.finish())
    assert durable(old) == want
    assert any(isinstance(item, Lag) and item.seconds > 0.3 for item in old)  # it was told, too
    if shed == "none":
        assert durable(new) == want
    else:
        assert isinstance(new, StreamFailed) and new.code == "busy" and "resume" in str(new)
        assert pushed[1] is new  # who still sent was told


def test_streams_with_and_without_voice_activity_share_steps(recognizer: StreamingRecognizer) -> None:
    vad = SileroVad()
    audios = [noise(2.0 + 0.3 * i, 60 + i) for i in range(4)]

    async def main() -> tuple[list[list], bytes]:
        async with running(recognizer, PATIENT, vad=vad) as scheduler:
            assert scheduler.vad and scheduler.bytes_per_stream > recognizer.init_state(1).bytes_per_stream
            streams = [scheduler.open(vad=i % 2 == 0, save_every_s=0.6) for i in range(4)]
            heard = [asyncio.create_task(collect(stream)) for stream in streams]
            for at in range(0, 50000, 1700):
                for stream, audio in zip(streams, audios, strict=True):
                    await stream.push(audio[at : at + 1700])
                await asyncio.sleep(0.001)
            while any(stream.ready for stream in streams):  # streams that are about to end are not saved
                await asyncio.sleep(0.001)
            await streams[0].flush("so far")  # a flush hears on a copy
            for stream in streams:
                await stream.finish()
            said = await asyncio.gather(*heard)
            saved = next(item for item in said[0] if isinstance(item, Saved))
            again = scheduler.open(saved=saved.data, vad=True)
            rest = asyncio.create_task(collect(again))
            await again.push(audios[0][saved.samples :])
            await again.finish()
            finals = [e for e in said[0][: said[0].index(saved)] + await rest if isinstance(e, Final)]
            assert [e.text for e in finals] == [e.text for e in said[0] if isinstance(e, Final)]
            return said, saved.data

    said, _ = asyncio.run(main())
    for i, audio in enumerate(audios):
        stream = Stream(recognizer, vad=vad if i % 2 == 0 else None)
        assert durable(said[i]) == durable(stream.push(audio) + stream.finish())


def test_voice_activity_that_is_not_there(recognizer: StreamingRecognizer) -> None:
    async def main() -> None:
        async with running(recognizer) as scheduler:
            with pytest.raises(VadError, match="cannot go by voice"):
                scheduler.open(vad=True)

    asyncio.run(main())


def test_integers_and_floats_are_heard_alike(recognizer: StreamingRecognizer) -> None:
    integers = (noise(2.0, 8) * 32767).astype(np.int16)

    async def main() -> list[list]:
        said = []
        async with running(recognizer) as scheduler:
            for kinds in (
                (integers,),
                (integers.astype(np.float32) / 32768,),
                (integers[:7000], integers[7000:].astype(np.float32) / 32768),
            ):
                stream = scheduler.open()
                heard = asyncio.create_task(collect(stream))
                for audio in kinds:
                    await stream.push(audio)
                await stream.finish()
                said.append([e for e in await heard if isinstance(e, Final)])
        return said

    one, two, three = asyncio.run(main())
    assert one and one == two == three


def test_many_flushes_wait_their_turn(recognizer: StreamingRecognizer) -> None:
    async def main() -> tuple[int, list]:
        async with running(Slow(recognizer, 0.01)) as scheduler:
            stream = scheduler.open()
            heard, asked = asyncio.create_task(collect(stream)), 0

            async def flood() -> None:
                nonlocal asked
                for i in range(40):
                    await stream.flush(str(i))
                    asked += 1

            flooding = asyncio.create_task(flood())
            await asyncio.sleep(0)
            most = asked
            await flooding
            await stream.finish()
            return most, await heard

    most, said = asyncio.run(main())
    assert most <= 8
    assert [item.id for item in said if isinstance(item, Flushed)] == [str(i) for i in range(40)]


def test_a_scheduler_that_a_defect_has_stopped_says_so(recognizer: StreamingRecognizer) -> None:
    async def main() -> None:
        async with running(recognizer) as scheduler:
            stream = scheduler.open()
            assert scheduler.alive
            stream.turn = None  # type: ignore[assignment, method-assign]
            await stream.push(np.zeros(16000, np.float32))
            with pytest.raises(StreamFailed, match="has stopped"):
                await collect(stream)
            assert not scheduler.alive

    asyncio.run(main())
