"""Settings of policies to be compared: single ones, and sweeps over options."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import typer

from .errors import UsageError
from .policies import option_name, policy_name

#: The ranges over which policies are usually compared; AlignAtt's frames in milliseconds of source.
USUAL: dict[str, tuple[str, tuple[float, ...]]] = {
    "alignatt": ("frames", (80, 160, 240, 320, 480, 640, 960)),
    "streamatt": ("frames", (80, 160, 240, 320, 480, 640, 960)),
    "edatt": ("alpha", (0.6, 0.4, 0.2, 0.1, 0.05, 0.03)),
    "wait-k": ("k", (1, 2, 3, 5, 7, 9)),
    "local-agreement": ("n", (2, 3, 4, 5)),
    "hold-n": ("n", (0, 2, 4, 6, 8, 12)),
    "fixed": ("every-ms", (200, 300, 400, 600, 800)),
    "retranslation": ("mask", (0, 2, 4)),
}


def check_setting(text: str) -> str:
    """``[POLICY:]option=value,…`` as it is.

    Raises:
        typer.BadParameter: it is not written so.
    """
    policy, assignments = _split(text)
    if not assignments or not all(option and equals and value for option, equals, value in (a.partition("=") for a in assignments)):
        raise typer.BadParameter(f"{text!r} is no setting; write option=value, or POLICY:option=value")
    return text


def check_sweep(text: str) -> str:
    """``[POLICY:]option=value,value,…`` or ``usual`` as it is.

    Raises:
        typer.BadParameter: it is not written so.
    """
    policy, colon, rest = text.rpartition(":")
    option, equals, values = rest.partition("=")
    if text != "usual" and not (option and equals and all(values.split(","))):
        raise typer.BadParameter(f"{text!r} is no sweep; write option=value,value,… or POLICY:option=value,value,… or usual")
    if colon:
        policy_name(policy)
    return text


def _split(text: str) -> tuple[str, list[str]]:
    policy, colon, rest = text.rpartition(":")
    if colon:
        policy_name(policy)
    return policy, rest.split(",")


def expand(policies: Sequence[str], settings: Sequence[str], sweeps: Sequence[str], frame_ms: float) -> list[tuple[str, tuple[str, ...]]]:
    """Every policy with every setting that is asked for it: (policy as given, assignments ``option=value``), in order, nothing twice.

    A setting or sweep without a policy's name is for all policies. Several sweeps of one policy are crossed. A policy with neither is
    one setting.

    Args:
        policies: as given by ``--policy``.
        settings: as given by ``--setting``.
        sweeps: as given by ``--sweep``.
        frame_ms: source time of a frame of the model's attention.

    Raises:
        UsageError: a setting for a policy that is not asked for.
        PolicyError: a policy lacks an option.
    """
    from riverrun.streaming.policies import policy_options

    names = {policy: policy_name(policy) for policy in policies}
    for text in (*settings, *sweeps):
        owner = text.rpartition(":")[0]
        if owner and policy_name(owner) not in names.values():
            raise UsageError(f"{text}: add --policy {owner}, or leave this out")
    found: dict[tuple[str, tuple[str, ...]], None] = {}
    for policy, name in names.items():
        for text in settings:
            owner, assignments = _split(text)
            if not owner or policy_name(owner) == name:
                found[policy, tuple(assignments)] = None
        axes: dict[str, tuple[str, ...]] = {}
        for text in sweeps:
            owner, _, rest = text.rpartition(":")
            if owner and policy_name(owner) != name:
                continue
            option, values = _usual(name, frame_ms) if text == "usual" else (rest.partition("=")[0], rest.partition("=")[2].split(","))
            axes[option_name(name, option, policy_options(name))] = tuple(values)
        if axes:
            for values in product(*axes.values()):
                found[policy, tuple(f"{option}={value}" for option, value in zip(axes, values, strict=True))] = None
        elif not any(key[0] == policy for key in found):
            found[policy, ()] = None
    return list(found)


def _usual(name: str, frame_ms: float) -> tuple[str, Sequence[str]]:
    option, values = USUAL[name]
    if option == "frames":
        values = tuple(dict.fromkeys(max(round(value / frame_ms), 1) for value in values))
    return option, [f"{value:g}" for value in values]
