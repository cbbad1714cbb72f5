"""``riverrun bench``: how fast it is on this machine."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from . import bench_kernels, bench_serve, soak
from .errors import UsageError
from .model import load_model
from .options import Beam, Device, Json, LiveLatency, Model, Search, SearchOption

app = typer.Typer(help="Measure speed on this machine.", no_args_is_help=True)

Audio = Annotated[Path | None, typer.Option(help="A recording, repeated to fill the time; noise if not given.", metavar="FILE")]
Seconds = Annotated[float, typer.Option(help="Audio per stream.", min=1.0, max=36000.0)]
Streams = Annotated[int, typer.Option(help="Streams stepped together in one batch.", min=1, max=4096)]
Threads = Annotated[int, typer.Option(help="Processor threads.", min=1, max=256)]


@app.callback()
def group() -> None:
    """Measure speed on this machine."""


app.command("serve")(bench_serve.serve)
app.command("soak")(soak.soak)
app.command("kernels")(bench_kernels.kernels)


@app.command("stream")
def stream(
    model: Model = "default",
    latency: LiveLatency = None,
    search: SearchOption = Search.greedy,
    beam: Beam = 4,
    audio: Audio = None,
    seconds: Seconds = 60.0,
    streams: Streams = 1,
    threads: Threads = 2,
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Step a model through audio as a live stream would be, and time every step."""
    import torch

    torch.set_num_threads(threads)
    loaded = load_model(model, device, latency)
    recognizer = loaded.recognizer(latency, search.value, beam)
    result = {"model": loaded.info["name"], "latency_ms": latency or loaded.info["default_latency_ms"], "search": search.value}
    result |= {"device": device, "threads": threads, "streams": streams, **_time(recognizer, samples_of(audio, seconds), streams)}
    if as_json:
        print(json.dumps(result))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in result.items():
        table.add_row(name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value))
    Console(highlight=False, file=sys.stdout).print(table)


def samples_of(audio: Path | None, seconds: float) -> Any:
    """So many seconds of a recording at 16 kHz, repeated, or of noise: float32 (n,)."""
    import numpy as np

    size = int(seconds * 16000)
    if audio is None:
        return np.random.default_rng(0).normal(0, 0.05, size).astype(np.float32)
    from riverrun.speech.audio import read_audio

    heard = read_audio(audio)
    if not len(heard):
        raise UsageError(f"{audio} holds no audio; give another recording")
    return np.tile(heard, -(-size // len(heard)))[:size]


def _time(recognizer: Any, samples: Any, streams: int) -> dict[str, Any]:
    import statistics
    import time

    import torch

    state, reader = recognizer.init_state(streams), recognizer.reader()
    audio = torch.from_numpy(samples)[None].expand(streams, -1)
    ends = list(range(recognizer.chunk + recognizer.delay, audio.shape[1] + 1, recognizer.chunk))
    if len(ends) < 4:
        raise UsageError("too little audio to time; use more --seconds")
    took, start = [], 0
    for end in ends:
        began = time.perf_counter()
        output, state = recognizer.step(audio[:, start:end], torch.full((streams,), end - start), state)
        reader.read(output, 0)  # brings the labels to the host, as a live stream does
        took.append(time.perf_counter() - began)
        start = end
    steady = sorted(took[2:])  # the first steps pay for warming up
    return {
        "audio_seconds": round(audio.shape[1] / recognizer.sample_rate, 1),
        "steps": len(took),
        "real_time_factor": round(sum(steady) / len(steady) * recognizer.sample_rate / recognizer.chunk / streams, 5),
        "step_ms_median": round(statistics.median(steady) * 1000, 2),
        "step_ms_p99": round(steady[min(len(steady) - 1, int(len(steady) * 0.99))] * 1000, 2),
        "bytes_per_stream": recognizer.init_state(1).bytes_per_stream,
    }
