"""``python -m riverrun.recipes.asr fit --config recipes/asr/conf/small.yaml``: train a streaming recogniser."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence

from pytorch_lightning.cli import LightningCLI

from .checkpoints import KeepCheckpoints, newest
from .data import AsrData
from .module import AsrModule


class CommandLine(LightningCLI):
    """Lightning's, with ``fit --ckpt_path last``: the newest checkpoint of `KeepCheckpoints`, or a new beginning if there is none."""

    def before_fit(self) -> None:
        given = self.config_init["fit"]
        if given.get("ckpt_path") == "last":
            folders = [callback.folder for callback in getattr(self.trainer, "callbacks", []) if isinstance(callback, KeepCheckpoints)]
            found = next((path for path in map(newest, folders) if path is not None), None)
            given["ckpt_path"] = None if found is None else str(found)


def command_line(arguments: Sequence[str] | None = None, run: bool = True) -> CommandLine:
    """Lightning's command line over `AsrModule` and `AsrData`; without ``run`` it only builds them and the trainer."""
    given = None if arguments is None else list(arguments)
    return CommandLine(AsrModule, AsrData, args=given, run=run, save_config_kwargs={"overwrite": True})


def main(run: Callable[[], object] = command_line) -> None:
    """Run a command line; what a user can mend is one line, and exit status 2."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    logging.getLogger("riverrun").setLevel(logging.INFO)
    try:
        run()
    except ValueError as error:
        if not raised_by_riverrun(error):
            raise
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)


def raised_by_riverrun(error: BaseException) -> bool:
    """Whether our own code raised it: then it says what the user can mend."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    return frame is not None and str(frame.tb_frame.f_globals.get("__name__")).startswith("riverrun.")


if __name__ == "__main__":
    main()
