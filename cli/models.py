"""``riverrun models``: which models there are, and what one of them is."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from .model import load_any
from .options import Json

app = typer.Typer(help="The models that are installed.", no_args_is_help=True)


@app.command("list")
def show_all(as_json: Json = False) -> None:
    """List the installed models."""
    from riverrun.speech.bundle import available

    found = sorted(available())
    if as_json:
        print(json.dumps([{"name": name, "path": str(path), "description": text} for name, path, text in found], ensure_ascii=False))
        return
    if not sys.stdout.isatty():
        for name, path, text in found:
            print(f"{name}\t{text}\t{path}")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "description", "folder", box=None, header_style="bold", pad_edge=False)
    for name, path, text in found:
        table.add_row(name, text, str(path))
    Console(highlight=False).print(table if found else "no models installed")


@app.command("info")
def show_one(
    name: Annotated[str, typer.Argument(help="Name of an installed model, its folder, or hf:owner/name.")], as_json: Json = False
) -> None:
    """Show what a model is: its facts, then its card."""
    model = load_any(name)
    if as_json:
        print(json.dumps({**model.info, "card": model.card}, ensure_ascii=False, default=str))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    facts = Table(box=None, show_header=False, pad_edge=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column()
    for key, value in model.info.items():
        facts.add_row(key.replace("_", " "), _readable(value))
    console.print(facts)
    console.print()
    if sys.stdout.isatty():
        from rich.markdown import Markdown

        console.print(Markdown(model.card))
    else:
        print(model.card)


def _readable(value: object) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}: {_readable(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_readable, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000 else str(value)
