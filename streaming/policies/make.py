"""Policies by name, with their options checked: what command lines and servers are given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from .agreement import HoldN, LocalAgreement, Retranslation
from .attention import AlignAtt, EDAtt
from .base import Policy, PolicyError
from .counting import Fixed, WaitK
from .streamatt import StreamAtt

#: Every policy by its name.
POLICIES: dict[str, type[Policy]] = {
    cls.name: cls for cls in (AlignAtt, EDAtt, StreamAtt, WaitK, LocalAgreement, HoldN, Fixed, Retranslation)
}


def policy_options(name: str) -> dict[str, Any]:
    """The options of a policy, as written by users, with their defaults.

    Raises:
        PolicyError: unknown name.
    """
    if name not in POLICIES:
        raise PolicyError(f"unknown policy {name!r}: choose {', '.join(POLICIES)}")
    return {_public(field.name): field.default for field in fields(POLICIES[name])}  # type: ignore[arg-type]


def make_policy(name: str, /, **options: Any) -> Policy:
    """A policy by name.

    Args:
        name: one of `POLICIES`.
        options: its fields; ``lambda`` may be written with or without the underscore that Python needs, and ``unit-ms`` with either.

    Raises:
        PolicyError: unknown name or option, or a value out of range.
    """
    known = policy_options(name)
    given = {_public(option): value for option, value in options.items()}
    for option in given:
        if option not in known:
            raise PolicyError(f"policy {name} has no option {option!r}: it has {', '.join(known)}")
    return POLICIES[name](**{field.name: given[p] for field in fields(POLICIES[name]) if (p := _public(field.name)) in given})  # type: ignore[arg-type]


def parse_policy(text: str, defaults: Mapping[str, Mapping[str, Any]] | None = None) -> Policy:
    """A policy written as ``name`` or ``name:option=value,option=value``, such as ``alignatt:frames=8``.

    Args:
        text: the policy.
        defaults: by policy, what suits a model better than the policy's own defaults.

    Raises:
        PolicyError: not written so, or see `make_policy`.
    """
    name, _, rest = text.partition(":")
    known = policy_options(name)
    options: dict[str, Any] = dict((defaults or {}).get(name, {}))
    for part in filter(None, rest.split(",")):
        option, equals, value = part.partition("=")
        if not equals:
            raise PolicyError(f"policy {text!r}: {part!r} is no option: write option=value")
        option = _public(option.strip())
        options[option] = value.strip() if isinstance(known.get(option), str) else _number(value.strip())
    return make_policy(name, **options)


def policy_text(policy: Policy) -> str:
    """A policy as `parse_policy` reads it, with the options that differ from their defaults."""
    options: Mapping[str, Any] = {_public(f.name): getattr(policy, f.name) for f in fields(policy) if getattr(policy, f.name) != f.default}  # type: ignore[arg-type]
    return policy.name + (":" + ",".join(f"{name}={value}" for name, value in options.items()) if options else "")


def _public(field: str) -> str:
    return field.rstrip("_").replace("_", "-")


def _number(text: str) -> int | float | str:
    """A number, or the text itself, which the option's own check then refuses."""
    for convert in (int, float):
        try:
            return convert(text)
        except ValueError:
            continue
    return text
