"""Options that several commands share, checked before anything heavy is loaded."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal

import typer

LATENCY_HELP = "Milliseconds from sound to text, or 'full' to use the whole recording; a model offers several."


class Search(StrEnum):
    """How the decoder looks for words."""

    greedy = "greedy"
    beam = "beam"


def _latency(value: str) -> str:
    if value != "full" and not (value.isdecimal() and int(value) > 0):
        raise typer.BadParameter(f"{value!r} is neither 'full' nor a number of milliseconds, such as 320")
    return value


def _search(value: str) -> Search:
    if value not in set(Search):
        raise typer.BadParameter(f"{value!r} is not a search; choose from {', '.join(Search)}")
    return Search(value)


def _device(value: str) -> str:
    if not re.fullmatch(r"cpu|cuda(:\d+)?", value):
        raise typer.BadParameter(f"{value!r} is not a device; give cpu, cuda or cuda:N")
    return value


def latency_ms(value: str | None) -> int | Literal["full"] | None:
    """The checked text of ``--latency`` as the model takes it: None for its default, ``"full"``, or milliseconds."""
    if value is None:
        return None
    return "full" if value == "full" else int(value)


Model = Annotated[str, typer.Option("--model", "-m", help="Name of an installed model, its folder, or hf:owner/name.", metavar="MODEL")]
Latency = Annotated[str | None, typer.Option("--latency", "-l", help=LATENCY_HELP, metavar="MS|full", parser=_latency)]
LiveLatency = Annotated[
    int | None, typer.Option("--latency", "-l", help="Milliseconds from sound to text; a model offers several.", metavar="MS", min=1)
]
SearchOption = Annotated[
    Search, typer.Option("--search", metavar="|".join(Search), parser=_search, help="Take the best word at once, or keep several in play.")
]
Beam = Annotated[int, typer.Option("--beam", help="Hypotheses kept by --search beam.", metavar="N", min=1, max=64)]
Device = Annotated[str, typer.Option("--device", "-d", help="Where the model runs: cpu, cuda or cuda:N.", metavar="DEVICE", parser=_device)]
Compute = Annotated[str, typer.Option("--compute", help="Where the model runs: cpu, cuda or cuda:N.", metavar="DEVICE", parser=_device)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, in a form that stays the same.")]
