"""``riverrun transcribe``: recordings to text, subtitles, or word times."""

from __future__ import annotations

from .errors import UsageError
from .hearing import Decoding
from .model import load_model
from .options import Beam, Device, Latency, Model, Search, SearchOption, latency_ms
from .recordings import Audio, Channels, Encoding, Form, Live, Output, Realtime, SampleRate, recordings


def transcribe(
    audio: Audio,
    model: Model = "default",
    form: Form = "txt",
    output: Output = None,
    latency: Latency = None,
    search: SearchOption = Search.greedy,
    beam: Beam = 4,
    live: Live = False,
    realtime: Realtime = False,
    device: Device = "cpu",
    sample_rate: SampleRate = None,
    encoding: Encoding = None,
    channels: Channels = None,
) -> None:
    """Turn recordings into text.

    One recording goes to standard output as it is; of several, text stands under headings, and JSON and CTM name the recording.
    """
    asked = recordings(audio, form, output, live, realtime, sample_rate, encoding, channels)
    delay = latency_ms(latency)
    if live and delay == "full":
        raise UsageError("--live needs a latency in milliseconds, not 'full'")
    asked.hear(Decoding(load_model(model, device, delay), delay, search, beam))
