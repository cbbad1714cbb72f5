"""``python -m riverrun.recipes.st fit --config recipes/st/conf/en-de.yaml``: train a streaming speech translator."""

from __future__ import annotations

from collections.abc import Sequence

from ..asr.__main__ import CommandLine, main
from .data import StData
from .module import StModule


def command_line(arguments: Sequence[str] | None = None, run: bool = True) -> CommandLine:
    """Lightning's command line over `StModule` and `StData`; without ``run`` it only builds them and the trainer."""
    given = None if arguments is None else list(arguments)
    return CommandLine(StModule, StData, args=given, run=run, save_config_kwargs={"overwrite": True})


if __name__ == "__main__":
    main(command_line)
