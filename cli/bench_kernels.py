"""``riverrun bench kernels``: every kernel against its peers, on a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Json

Families = Annotated[list[str] | None, typer.Argument(help="Kernel families; all by default.", metavar="FAMILY", show_default=False)]
Output = Annotated[Path | None, typer.Option(help="Also write the numbers to this file, as JSON.", metavar="FILE")]
Tune = Annotated[bool, typer.Option("--tune", help="Try other launch sizes, and print the best for each class of shapes.")]
Limit = Annotated[float, typer.Option(help="Stop after so many seconds; what is left is marked.", min=10.0, max=36000.0)]


def kernels(families: Families = None, output: Output = None, tune: Tune = False, seconds: Limit = 150.0, as_json: Json = False) -> None:
    """Measure every kernel on a GPU against its peers and against what the hardware allows; a kernel that is wrong gets no time."""
    from riverrun.kernels.benchmarks.run import report

    raise typer.Exit(report(families or (), output, tune, seconds, as_json))
