"""``riverrun transcribe``: recordings to text, subtitles, or word times."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from .errors import Stopped, UsageError, about, is_users, say
from .formats import FORMATS, Format
from .hearing import ENCODINGS, Decoding, Pcm
from .inputs import STDIN, expand, output_names, standard_input
from .live import Captions
from .model import load_model
from .options import Beam, Device, Latency, Model, Search, SearchOption, latency_ms
from .outputs import prepare_folder, write_whole


def _format(value: str) -> str:
    if value not in FORMATS:
        raise typer.BadParameter(f"{value!r} is not a format; choose from {', '.join(FORMATS)}")
    return value


def _encoding(value: str) -> str:
    if value not in ENCODINGS:
        raise typer.BadParameter(f"{value!r} is not an encoding; choose from {', '.join(ENCODINGS)}")
    return value


Audio = Annotated[
    list[str],
    typer.Argument(help="Files, folders, or - for PCM from standard input.", metavar="AUDIO", show_default=False),
]
Form = Annotated[str, typer.Option("--format", "-f", help="What to write.", metavar="|".join(FORMATS), parser=_format)]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Write a file for each recording into this folder, replacing older ones.", metavar="DIR"),
]
Live = Annotated[bool, typer.Option("--live", help="Show captions as they come.")]
Realtime = Annotated[bool, typer.Option("--realtime", help="With --live: hear a file no faster than it was spoken.")]
SampleRate = Annotated[
    int | None, typer.Option(help="Of '-'; 16000 if not given.", metavar="HERTZ", min=1000, max=192000, show_default=False)
]
Encoding = Annotated[
    str | None,
    typer.Option(help=f"Of '-'; {ENCODINGS[0]} if not given.", metavar="|".join(ENCODINGS), show_default=False, parser=_encoding),
]
Channels = Annotated[int | None, typer.Option(help="Of '-'; 1 if not given.", metavar="N", min=1, max=64, show_default=False)]


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
    kind = FORMATS[form]
    inputs = expand(audio)
    if live and output is None and form != "txt":
        raise UsageError(f"--live prints captions; add --output DIR to keep them as {form}, too")
    if len(inputs) > 1 and output is None and not kind.joins:
        raise UsageError(f"several recordings cannot share one {form} file; add --output DIR")
    if realtime and not live:
        raise UsageError("--realtime sets the pace of --live; add --live, or leave it out to be done sooner")
    if (sample_rate or encoding or channels) and STDIN not in inputs:
        raise UsageError("--sample-rate, --encoding and --channels describe '-' only; a file says this itself")
    if STDIN in inputs:
        standard_input()
    if output is not None:
        prepare_folder(output)
    delay = latency_ms(latency)
    if live and delay == "full":
        raise UsageError("--live needs a latency in milliseconds, not 'full'")
    pcm = Pcm(encoding or ENCODINGS[0], sample_rate or 16000, channels or 1)
    heard = Decoding(load_model(model, device, delay), delay, search, beam)
    failed = _each(inputs, heard, pcm, Showing(live, realtime), kind, output)
    if failed:
        say(f"{failed} of {len(inputs)} recordings failed")
        raise typer.Exit(1)


class Showing(NamedTuple):
    """Whether captions are shown, and at whose pace."""

    live: bool
    realtime: bool


def _each(inputs: Sequence[str], heard: Decoding, pcm: Pcm, show: Showing, kind: Format, output: Path | None) -> int:
    """Transcribe one after another; the number that failed. The error of an only recording is raised."""
    failed, several = 0, len(inputs) > 1
    for i, (name, stem) in enumerate(zip(inputs, output_names(inputs), strict=True)):
        label = "<stdin>" if name == STDIN else name
        gap = "\n" if i > failed else ""
        heading = f"{gap}==> {label} <==\n" if several and output is None and kind is FORMATS["txt"] else ""
        captions = Captions(heading) if show.live else None
        try:
            if name == STDIN:
                transcript, whole = heard.pipe(pcm, captions)
            elif captions:
                transcript, whole = heard.live_file(Path(name), captions, show.realtime)
            else:
                transcript, whole = heard.file(Path(name), f"{i + 1}/{len(inputs)} {name}" if several else name), True
            if output is not None:
                write_whole(output / (stem + kind.suffix), kind.render(transcript, stem if name == STDIN else name))
            elif not show.live:
                sys.stdout.write(heading + kind.render(transcript, stem if name == STDIN else name))
                sys.stdout.flush()
        except KeyboardInterrupt:
            raise Stopped(f"stopped; {i - failed} of {len(inputs)} recordings done") from None
        except ValueError as error:
            if not is_users(error):
                raise
            if not several:
                raise UsageError(about(label, error)) from None
            say(about(label, error))
            failed += 1
        else:
            if not whole:
                raise Stopped("stopped; what was heard until then is kept")
    return failed
