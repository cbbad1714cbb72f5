"""Dataclasses from plain dictionaries (YAML) and back, with errors that name the key."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, TypeVar

T = TypeVar("T")


class ConfigurationError(ValueError):
    """A configuration that does not fit: the message names the key."""


def to_dict(value: Any) -> Any:
    """A dataclass as nested dictionaries and lists."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (list, tuple)):
        return [to_dict(v) for v in value]
    return value


def from_dict(cls: type[T], data: Any, where: str = "") -> T:
    """Build dataclass ``cls`` from nested dictionaries.

    Raises:
        ConfigurationError: an unknown or missing key, or a value of the wrong type or out of range.
    """
    if not isinstance(data, dict):
        raise ConfigurationError(f"{where or 'the configuration'} must be a mapping, not {data!r}")
    hints = typing.get_type_hints(cls)
    names = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in data:
        if key not in names:
            raise ConfigurationError(f"unknown key {_join(where, key)!r}: it takes {', '.join(sorted(names))}")
    try:
        return cls(**{key: _convert(hints[key], value, _join(where, key)) for key, value in data.items()})
    except TypeError as error:
        raise ConfigurationError(f"{where or 'the configuration'}: {error}") from None
    except ConfigurationError:
        raise
    except ValueError as error:
        raise ConfigurationError(f"{where}: {error}" if where else str(error)) from None


def _join(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)


def _convert(kind: Any, value: Any, where: str) -> Any:
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        options = typing.get_args(kind)
        if value is None and type(None) in options:
            return None
        return _convert(next(o for o in options if o is not type(None)), value, where)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return from_dict(kind, value, where)
    if typing.get_origin(kind) in (tuple, list):
        if not isinstance(value, list):
            raise ConfigurationError(f"{where} must be a list, not {value!r}")
        container: Any = typing.get_origin(kind)
        return container(_convert(typing.get_args(kind)[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(kind, type) and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise ConfigurationError(f"{where} must be {kind.__name__}, not {value!r}")
    return value
