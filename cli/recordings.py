"""Many recordings through one model, one after another: what ``transcribe`` and ``translate`` share."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from .errors import Stopped, UsageError, about, is_users, say
from .formats import FORMATS, Format
from .hearing import ENCODINGS, Hearing, Pcm
from .inputs import STDIN, expand, output_names, standard_input
from .live import Captions
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


@dataclass(frozen=True)
class Recordings:
    """What is to be heard, and where its text goes.

    Attributes:
        inputs: files in order, and ``-``.
        kind: of output.
        output: folder for a file of each; None for standard output.
        live: whether captions are shown as they come.
        realtime: whether files are heard at the pace of the clock then.
        pcm: how the samples of ``-`` are written.
    """

    inputs: Sequence[str]
    kind: Format
    output: Path | None
    live: bool
    realtime: bool
    pcm: Pcm

    def hear(self, heard: Hearing) -> None:
        """Hear one after another. One recording goes to standard output as it is; of several, text stands under headings.

        Raises:
            UsageError: the only recording cannot be read.
            typer.Exit: with status 1, some of many could not.
            Stopped: by Ctrl-C.
        """
        failed = self._each(heard)
        if failed:
            say(f"{failed} of {len(self.inputs)} recordings failed")
            raise typer.Exit(1)

    def _each(self, heard: Hearing) -> int:
        """The number that failed."""
        failed, several = 0, len(self.inputs) > 1
        for i, (name, stem) in enumerate(zip(self.inputs, output_names(self.inputs), strict=True)):
            label = "<stdin>" if name == STDIN else name
            gap = "\n" if i > failed else ""
            heading = f"{gap}==> {label} <==\n" if several and self.output is None and self.kind is FORMATS["txt"] else ""
            captions = Captions(heading) if self.live else None
            try:
                if name == STDIN:
                    transcript, whole = heard.pipe(self.pcm, captions)
                elif captions:
                    transcript, whole = heard.live_file(Path(name), captions, self.realtime)
                else:
                    transcript, whole = heard.file(Path(name), f"{i + 1}/{len(self.inputs)} {name}" if several else name), True
                content = self.kind.render(transcript, stem if name == STDIN else name)
                if self.output is not None:
                    write_whole(self.output / (stem + self.kind.suffix), content)
                elif not self.live:
                    sys.stdout.write(heading + content)
                    sys.stdout.flush()
            except KeyboardInterrupt:
                raise Stopped(f"stopped; {i - failed} of {len(self.inputs)} recordings done") from None
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


def recordings(
    audio: Sequence[str],
    form: str,
    output: Path | None,
    live: bool,
    realtime: bool,
    sample_rate: int | None,
    encoding: str | None,
    channels: int | None,
) -> Recordings:
    """Check what was asked for, before anything heavy is loaded; make the output folder.

    Raises:
        UsageError: options that do not go together, or nothing to hear.
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
    return Recordings(inputs, kind, output, live, realtime, Pcm(encoding or ENCODINGS[0], sample_rate or 16000, channels or 1))
