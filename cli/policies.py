"""Translation policies on the command line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .errors import UsageError

if TYPE_CHECKING:
    from riverrun.streaming.policies import Policy

#: Names of `riverrun.streaming.policies.POLICIES`, here so that a wrong one is told at once, before torch is imported.
NAMES = ("alignatt", "edatt", "streamatt", "wait-k", "local-agreement", "hold-n", "fixed", "retranslation")
_ALSO = {"re-translation": "retranslation"}


def policy_name(text: str) -> str:
    """The name in ``name`` or ``name:option=value,…``.

    Raises:
        typer.BadParameter: no such policy.
    """
    given = text.partition(":")[0]
    name = _ALSO.get(given, given)
    if name not in NAMES:
        raise typer.BadParameter(f"{given!r} is not a policy; choose from {', '.join(NAMES)}")
    return name


def _policy(text: str) -> str:
    policy_name(text)
    return text


def _assignment(text: str) -> str:
    option, equals, value = text.partition("=")
    if not option or not equals or not value:
        raise typer.BadParameter(f"{text!r} is no setting; write option=value, such as frames=8")
    return text


PolicyText = Annotated[
    str,
    typer.Option("--policy", help="When to write: " + ", ".join(NAMES) + "; also NAME:option=value,…", metavar="NAME", parser=_policy),
]
Options = Annotated[
    list[str],
    typer.Option(
        "--option",
        "-O",
        help="An option of the policy; the beginning of its name will do. May be given again.",
        metavar="OPTION=VALUE",
        parser=_assignment,
    ),
]


def make(text: str, options: Iterable[str] = (), defaults: Mapping[str, Mapping[str, Any]] | None = None) -> Policy:
    """A policy.

    Args:
        text: ``name`` or ``name:option=value,…``.
        options: further ``option=value``; names may be shortened to a beginning that is of one option only.
        defaults: by policy, what suits the model better than the policy's own defaults.

    Raises:
        PolicyError: an unknown option, or a value out of range.
        UsageError: a beginning that several options share, or an option given twice.
    """
    from riverrun.streaming.policies import parse_policy

    name = policy_name(text)
    given = given_options(text, options)
    return parse_policy(f"{name}:" + ",".join(f"{option}={value}" for option, value in given.items()), defaults)


def given_options(text: str, options: Iterable[str] = ()) -> dict[str, str]:
    """The options that are given, by their full names, as written; arguments and errors as of `make`."""
    from riverrun.streaming.policies import policy_options

    name = policy_name(text)
    known = policy_options(name)
    given: dict[str, str] = {}
    for assignment in [*filter(None, text.partition(":")[2].split(",")), *options]:
        option, _, value = assignment.partition("=")
        option = option_name(name, option.strip(), known)
        if option in given:
            raise UsageError(f"policy {name}: {option} is given twice")
        given[option] = value.strip()
    return given


def option_name(policy: str, beginning: str, known: Iterable[str]) -> str:
    """The option that ``beginning`` stands for; itself, where it stands for none.

    Raises:
        UsageError: it stands for several.
    """
    found = [option for option in known if option.startswith(beginning)]
    if beginning in found or not found:
        return beginning
    if len(found) > 1:
        raise UsageError(f"policy {policy}: {beginning!r} may be {' or '.join(found)}; write more of it")
    return found[0]


def described(policy: Policy) -> str:
    """A policy with the options that are not its defaults, for people."""
    from riverrun.streaming.policies import policy_text

    return policy_text(policy)
