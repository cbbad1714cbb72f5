"""``riverrun listen``: the microphone to text, live."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import UsageError, say
from .formats import FORMATS, Format
from .hearing import Decoding
from .live import Captions
from .model import load_model
from .options import Beam, Compute, LiveLatency, Model, Search, SearchOption
from .outputs import prepare_folder, write_whole
from .remote import hear_remotely, stream_url

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from riverrun.streaming.events import Transcript
    from riverrun.streaming.microphone import Recording

Chosen = Annotated[
    str | None,
    typer.Option(
        "--device",
        "-d",
        help="The microphone: its number, its name or part of that, or file:PATH to play a recording in its place.",
        metavar="NAME",
        show_default=False,
    ),
]
Save = Annotated[Path | None, typer.Option(help="Write what was said to this file, too; its suffix names the format.", metavar="FILE")]
Server = Annotated[
    str | None,
    typer.Option(
        help="Let a server do it: HOST:PORT, or https://HOST. Its token is read from RIVERRUN_TOKEN.", metavar="URL", show_default=False
    ),
]
Language = Annotated[str | None, typer.Option(help="With --server: what is spoken.", metavar="CODE", show_default=False)]
To = Annotated[str | None, typer.Option(help="With --server: what to translate into.", metavar="CODE", show_default=False)]
Policy = Annotated[str | None, typer.Option(help="With --server and --to: when to write.", metavar="NAME", show_default=False)]


def listen(
    model: Model = "default",
    device: Chosen = None,
    devices: Annotated[bool, typer.Option("--devices", help="Print the microphones and exit.")] = False,
    latency: LiveLatency = None,
    search: SearchOption = Search.greedy,
    beam: Beam = 4,
    save: Save = None,
    compute: Compute = "cpu",
    server: Server = None,
    language: Language = None,
    to: To = None,
    policy: Policy = None,
) -> None:
    """Write down what the microphone hears, until Ctrl-C."""
    if devices:
        _list()
        return
    if not server and (language or to or policy):
        raise UsageError("--language, --to and --policy ask something of a server; add --server, or leave them out")
    address = stream_url(server) if server else None
    form = next((form for form in FORMATS.values() if save and form.suffix.lower() == save.suffix.lower()), None)
    if save and form is None:
        raise UsageError(f"{save}: the suffix names no format; choose from {', '.join(form.suffix for form in FORMATS.values())}")
    from riverrun.streaming.microphone import open_microphone

    recording, captions = open_microphone(device, trouble=say), Captions()
    if save:
        prepare_folder(save.parent)
    if address:
        start = {"model": model, "latency_ms": latency, "language": language, "translate_to": to, "policy": policy}
        transcript = _remotely(address, recording, captions, save, form, start)
    else:
        heard = Decoding(load_model(model, compute, latency), latency, search, beam)
        transcript, _ = heard.blocks(microphone_blocks(recording, captions), recording.sample_rate, captions)
    if save and form:
        write_whole(save, form.render(transcript, save.stem))


def _remotely(
    address: str, recording: Recording, captions: Captions, save: Path | None, form: Format | None, start: dict[str, Any]
) -> Transcript:
    """Hear by a server; what was finished is saved even if the server fails."""
    from riverrun.streaming import events

    segments: list[events.Final] = []
    try:
        return hear_remotely(address, microphone_blocks(recording, captions), recording.sample_rate, captions, segments, **start)[0]
    except ValueError:
        if save and form and segments:
            write_whole(save, form.render(events.Transcript(tuple(segments), segments[-1].end), save.stem))
        raise


def _list() -> None:
    from riverrun.streaming.microphone import microphones

    for found in microphones():
        mark = "*" if found.default else " "
        print(f"{mark} {found.index:3}  {found.name}  ({found.channels} channels, {found.sample_rate} Hz)")


def microphone_blocks(recording: Recording, captions: Captions) -> Iterator[NDArray[np.float32]]:
    """What is recorded, with its level shown, once someone is there to hear it."""
    with recording:
        say(f"listening to {recording.name}; Ctrl-C ends")
        for block in recording:
            captions.meter(block, recording.sample_rate)
            yield block
