"""``riverrun bench soak``: a day of live audio, faster than it lasts. Does memory stay flat, do words keep their times?"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import UsageError
from .model import load_model
from .options import Device, Json, LiveLatency, Model

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from riverrun.streaming import Word
    from riverrun.streaming.scheduler import LiveStream

_PAUSE_S = 3.0  # of silence behind the recording, in which segments end
_WARM_S = 60.0  # in which all that a network remembers becomes periodic, and all that is allocated once is allocated
_LOOKS = 40  # at the memory
_GROWTH = 0.02  # of the memory, from the second quarter to the last, that counts as flat


@dataclass
class Repetitions:
    """The words of one stream, compared from repetition to repetition of what it hears.

    Attributes:
        period: seconds of one.
        first: repetition that the later ones are held against.
        compared: repetitions.
        different: those whose words are others.
        drift_ms: most that a word's time has moved.
    """

    period: float
    first: int
    compared: int = 0
    different: int = 0
    drift_ms: float = 0.0
    _number: int = 0
    _words: list[Word] = field(default_factory=list)
    _want: list[Word] = field(default_factory=list)

    def take(self, words: Sequence[Word]) -> None:
        """Words of a segment, in order."""
        for word in words:
            number = int((word.start + word.end) / 2 // self.period)
            if number != self._number:
                self._compare()
                self._number, self._words = number, []
            self._words.append(word)

    def _compare(self) -> None:
        if self._number < self.first:
            return
        if self._number == self.first:
            self._want = self._words
            return
        self.compared += 1
        shift = (self._number - self.first) * self.period
        if [word.text for word in self._words] != [word.text for word in self._want]:
            self.different += 1
            return
        for have, want in zip(self._words, self._want, strict=True):
            moved = max(abs(have.start - want.start - shift), abs(have.end - want.end - shift))
            self.drift_ms = max(self.drift_ms, round(moved * 1000, 3))


def soak(
    model: Model = "default",
    hours: Annotated[float, typer.Option(help="Audio of each stream.", min=0.01, max=1000.0)] = 24.0,
    streams: Annotated[int, typer.Option(help="Streams at a time.", min=1, max=4096)] = 2,
    latency: LiveLatency = None,
    audio: Annotated[Path | None, typer.Option(help="What is repeated; a bundled recording if not given.", metavar="FILE")] = None,
    vad: Annotated[bool, typer.Option("--vad", help="Let endpoints go by voice activity.")] = False,
    threads: Annotated[int, typer.Option(help="Processor threads.", min=1, max=256)] = 2,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Run streams through the scheduler for hours of audio that repeats, as fast as it goes.

    Words of each repetition must be those of an earlier one, at times that are later by the repetitions between and by nothing else; and
    memory must not grow from the second quarter of the run to the last. Exit status 1 if either fails.
    """
    import torch

    torch.set_num_threads(threads)
    recognizer = load_model(model, device, latency).recognizer(latency)
    heard = _period(audio, recognizer)
    began = time.monotonic()
    repetitions, memory = asyncio.run(_run(recognizer, heard, hours * 3600, streams, vad))
    seconds = time.monotonic() - began
    quarter = max(len(memory) // 4, 1)
    early, late = (sum(part) / len(part) for part in (memory[quarter : 2 * quarter] or memory, memory[-quarter:]))
    result = {
        "model": model,
        "hours": hours,
        "streams": streams,
        "vad": vad,
        "period_seconds": round(len(heard) / recognizer.sample_rate, 3),
        "repetitions_compared": sum(r.compared for r in repetitions),
        "repetitions_different": sum(r.different for r in repetitions),
        "drift_ms": max(r.drift_ms for r in repetitions),
        "memory_mb": [round(m / 1e6, 1) for m in memory],
        "memory_growth": round(late / early - 1, 4),
        "times_real_time": round(hours * 3600 * streams / seconds, 1),
        "seconds": round(seconds, 1),
    }
    same = result["repetitions_compared"] and not result["repetitions_different"] and not result["drift_ms"]
    result["passed"] = bool(same and late <= early * (1 + _GROWTH))
    if as_json:
        print(json.dumps(result))
    else:
        from rich.console import Console
        from rich.table import Table

        table = Table(box=None, show_header=False, pad_edge=False)
        for name, value in result.items():
            table.add_row(name.replace("_", " "), str(value))
        Console(highlight=False, file=sys.stdout).print(table)
    if not result["passed"]:
        raise typer.Exit(1)


def _period(audio: Path | None, recognizer: Any) -> NDArray[np.float32]:
    """The recording and a pause, of whole chunks together: every repetition is cut alike."""
    import numpy as np

    from riverrun.speech.audio import read_audio

    samples = read_audio(audio or Path(__file__).parent / "demo" / "prompts.ogg", sample_rate=recognizer.sample_rate)
    if not len(samples):
        raise UsageError(f"{audio} holds no audio; give another recording")
    least = len(samples) + round(_PAUSE_S * recognizer.sample_rate)
    return np.pad(samples, (0, -(-least // recognizer.chunk) * recognizer.chunk - len(samples)))


async def _run(recognizer: Any, heard: NDArray[np.float32], seconds: float, streams: int, vad: bool) -> tuple[list[Repetitions], list[int]]:
    from riverrun.streaming import Final
    from riverrun.streaming.scheduler import Scheduler, SchedulerConfig
    from riverrun.streaming.vad import SileroVad

    period = len(heard) / recognizer.sample_rate
    count = int(seconds / period)
    first = int(_WARM_S / period) + 1
    if count < first + 3:
        raise UsageError(f"{(first + 3) * period / 3600:.2f} hours are needed to compare repetitions of {period:.1f} s; give more --hours")
    memory: list[int] = []

    async def speak(stream: LiveStream, watched: bool) -> None:
        for i in range(count):
            await stream.push(heard)
            if watched and i >= first and i * _LOOKS // count != (i - 1) * _LOOKS // count:
                memory.append(_resident())
        await stream.finish()

    async def listen(stream: LiveStream) -> Repetitions:
        repetitions = Repetitions(period, first)
        async for item in stream:
            if isinstance(item, Final):
                repetitions.take(item.words)
        return repetitions

    config = SchedulerConfig(max_streams=streams, utilisation=float("inf"), queue_s=4 * period, shed="none", outbox=1 << 30)
    async with Scheduler(recognizer, config, vad=SileroVad() if vad else None) as scheduler:
        opened = [scheduler.open(vad=vad, save_every_s=4.0) for _ in range(streams)]
        speaking = [asyncio.create_task(speak(stream, i == 0)) for i, stream in enumerate(opened)]
        listening = [asyncio.create_task(listen(stream)) for stream in opened]
        await asyncio.gather(*speaking)
        return list(await asyncio.gather(*listening)), memory


def _resident() -> int:
    """Bytes of this process in memory (Linux)."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0
