"""The ``riverrun`` command: its subcommands, and the one place where errors become messages and exit statuses."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from . import bench, evaluate, listen, models, serve, transcribe, translate
from .errors import Stopped, is_users, say

app = typer.Typer(
    name="riverrun",
    help="Streaming speech: recordings and live audio to text, in their own language or another.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("transcribe")(transcribe.transcribe)
app.command("translate")(translate.translate)
app.command("listen")(listen.listen)
app.command("serve")(serve.serve)
app.command("evaluate")(evaluate.evaluate)
app.add_typer(models.app, name="models")
app.add_typer(bench.app, name="bench")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"riverrun {version('riverrun')}")
        raise typer.Exit


@app.callback()
def root(
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)] = False,
) -> None:
    """Options before the subcommand."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    An error that the user can mend is one line and status 2; Ctrl-C is one line and status 130; any other exception is a defect
    and keeps its traceback.
    """
    sys.exit(_run(list(sys.argv[1:] if arguments is None else arguments)))


def _run(arguments: list[str]) -> int:
    try:
        status = app(arguments, prog_name="riverrun", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        status = 130
    except Stopped as stopped:
        say(str(stopped))
        return 130
    except Exception as error:
        if hasattr(error, "format_message"):  # the option parser's: a wrong or missing option
            return _wrong_use(error)
        if not is_users(error):
            raise
        say(str(error))
        return 2
    if status == 130:
        say("stopped")
    return status if isinstance(status, int) else 0


def _wrong_use(error: Exception) -> int:
    context = getattr(error, "ctx", None)
    message = error.format_message()  # type: ignore[attr-defined]
    if type(error).__name__ == "NoArgsIsHelpError":
        print(message)
    else:
        say(f"{message.rstrip('.')}; see '{context.command_path if context else 'riverrun'} --help'")
    return 2
