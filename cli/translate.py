"""``riverrun translate``: speech to text in another language, as it is spoken."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .errors import UsageError, say
from .listen import Chosen, microphone_blocks
from .live import Captions
from .options import Compute, Latency, latency_ms
from .outputs import prepare_folder, write_whole
from .plots import alignment, check_plot
from .policies import Options, PolicyText, described
from .recordings import Channels, Encoding, Form, Live, Output, Realtime, Recordings, SampleRate, recordings
from .translation import PAUSE_S, DecideEvery, From, Layer, Silence, To, Translating, Translation, TranslationBeam, TranslationModelName

Audio = Annotated[
    list[str],
    typer.Argument(help="Files, folders, or - for PCM from standard input; the microphone if none.", metavar="AUDIO", show_default=False),
]
Plot = Annotated[
    Path | None,
    typer.Option("--plot", help="Draw where each target token looked and when it was written: a png, svg or pdf file.", metavar="FILE"),
]


def translate(
    audio: Audio = [],  # noqa: B006  # only ever read
    to: To = None,
    model: TranslationModelName = None,
    policy: PolicyText = "alignatt",
    options: Options = [],  # noqa: B006  # only ever read
    source: From = None,
    form: Form = "txt",
    output: Output = None,
    latency: Latency = None,
    decide: DecideEvery = None,
    beam: TranslationBeam = 1,
    layer: Layer = None,
    silence: Silence = PAUSE_S,
    live: Live = False,
    realtime: Realtime = False,
    plot: Plot = None,
    compute: Compute = "cpu",
    device: Chosen = None,
    sample_rate: SampleRate = None,
    encoding: Encoding = None,
    channels: Channels = None,
) -> None:
    """Translate speech while it is spoken.

    The policy says when there is enough source to write a word. What is written stays; with --live, text that may change is dimmed.
    Where the speaker pauses, all is written, and the next sentence is translated by itself.
    Without AUDIO the microphone is heard, until Ctrl-C.
    """
    check_plot(plot)
    if audio and device:
        raise UsageError("--device names a microphone, and AUDIO is given; leave one out (the model's place is --compute)")
    if not audio and (realtime or sample_rate or encoding or channels):
        raise UsageError("--realtime, --sample-rate, --encoding and --channels describe recordings; name one, or leave them out")
    asked = recordings(audio, form, output, live or not audio, realtime, sample_rate, encoding, channels)
    if plot is not None:
        if len(asked.inputs) > 1:
            raise UsageError("--plot draws one recording; name only one")
        prepare_folder(plot.parent)
    wanted = Translating(model, compute, to, source, latency_ms(latency), beam, layer, decide, silence)
    attending = wanted.attention_model(wanted.load(), policy)
    rule = wanted.policy(attending, policy, options)
    if plot is None:
        _hear(asked, Translation(wanted.translator(attending, rule)), device)
        return
    traced = wanted.traced(attending, rule)
    try:
        _hear(asked, Translation(traced), device)
    finally:
        if traced.written:
            alignment(plot, traced.written, attending.frame_ms, f"{Path(audio[0]).name if audio else 'microphone'}: {described(rule)}")
        else:
            say(f"nothing was written, so {plot} is not drawn")


def _hear(asked: Recordings, heard: Translation, device: str | None) -> None:
    """Hear recordings, or the microphone if there are none."""
    if asked.inputs:
        asked.hear(heard)
        return
    from riverrun.streaming.microphone import open_microphone

    recording, captions = open_microphone(device, trouble=say), Captions()
    transcript, _ = heard.blocks(microphone_blocks(recording, captions), recording.sample_rate, captions)
    if asked.output is not None:
        write_whole(asked.output / f"microphone{asked.kind.suffix}", asked.kind.render(transcript, "microphone"))
