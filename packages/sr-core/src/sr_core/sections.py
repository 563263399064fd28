"""Sections of a configuration: dataclasses made from plain mappings, checked; an unknown key gets the nearest one."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from sr_core.errors import ConfigError

Section = TypeVar("Section")


def require(condition: bool, key: str, rule: str, value: object) -> None:
    """Raise ConfigError naming ``key``, its ``rule`` and the ``value`` got, unless ``condition`` holds."""
    if not condition:
        raise ConfigError(f"{key} {rule}, got {value!r}")


def build(section: type[Section], values: Mapping[str, Any], name: str) -> Section:
    """Make the dataclass ``section`` from ``values``.

    Raises ConfigError for an unknown key (naming the nearest valid one), a value of the wrong type, or a value
    that breaks a rule of the section; messages carry the full key ``name.key``.
    """
    hints = typing.get_type_hints(section)
    keys = [f.name for f in dataclasses.fields(section)]  # type: ignore[arg-type]
    for key, value in values.items():
        if key not in keys:
            raise ConfigError(f"unknown key {name}.{key}: {nearest(key, keys)}")
        if not _fits(value, hints[key]):
            raise ConfigError(f"{name}.{key} must be {_describe(hints[key])}, got {value!r}")
    return section(**values)


def nearest(key: str, valid: typing.Iterable[str]) -> str:
    """The way out for an unknown ``key``: the closest of ``valid``, or the list of them."""
    valid = list(valid)
    close = difflib.get_close_matches(key, valid, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"valid are {', '.join(valid)}"


def _fits(value: object, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is Literal:
        return value in typing.get_args(hint)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, typing.get_args(hint)[0]) for item in value)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, part) for part in typing.get_args(hint))
    if hint is float:  # TOML writes 1 for 1.0
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _describe(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(hint)))
    if typing.get_origin(hint) is list:
        return f"a list, each item {_describe(typing.get_args(hint)[0])}"
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return " or ".join(_describe(part) for part in typing.get_args(hint) if part is not type(None))
    return {float: "a finite number", int: "a whole number", str: "a string", bool: "true or false"}.get(
        hint, getattr(hint, "__name__", str(hint))
    )
