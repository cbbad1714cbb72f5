"""``python -m riverrun.recipes.st fit --config recipes/st/conf/en-de.yaml``: train a streaming speech translator."""

from __future__ import annotations

from collections.abc import Sequence

from pytorch_lightning.cli import LightningCLI

from .data import StData
from .module import StModule


def command_line(arguments: Sequence[str] | None = None, run: bool = True) -> LightningCLI:
    """Lightning's command line over `StModule` and `StData`; without ``run`` it only builds them and the trainer."""
    given = None if arguments is None else list(arguments)
    return LightningCLI(StModule, StData, args=given, run=run, save_config_kwargs={"overwrite": True})


def main() -> None:
    """Run the command line."""
    command_line()


if __name__ == "__main__":
    main()
