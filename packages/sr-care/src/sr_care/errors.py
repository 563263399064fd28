"""What can go wrong in sr-care, as types."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any


class CareError(Exception):
    """Base of every error of this package: the rule, the value got and the way out, in one line."""


class EntryError(CareError):
    """A value that is no strategy, context, delta or configuration: nothing was written."""


class StoreError(CareError):
    """The memory file could not be opened, read or written: what it already held is untouched."""


LARGEST = 2**63 - 1  # SQLite's largest whole number


def check_number(
    name: str,
    value: object,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    optional: bool = False,
    above: bool = False,
    whole: bool = False,
) -> Any:
    """``value`` as a float, or an int with ``whole``; EntryError unless it is a finite number in [low, high] (with
    ``above``: in (low, high]).

    Any real number will do, numpy's scalars among them, but no boolean. ``optional`` lets None pass.
    """
    if value is None and optional:
        return None
    if whole:
        low, high = max(low, -LARGEST), min(high, LARGEST)
    number = math.nan
    if isinstance(value, Real) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:  # an int beyond the largest float
            number = math.inf
    good = math.isfinite(number) and low <= number <= high and not (above and number == low)
    if not good or (whole and not (number.is_integer() and low <= int(value) <= high)):  # type: ignore[call-overload]
        kind, bracket = "whole" if whole else "finite", "(" if above else "["
        way = "; leave it None where it was not measured" if optional else ""
        raise EntryError(f"{name} must be a {kind} number in {bracket}{low:g}, {high:g}], got {value!r}{way}")
    return int(value) if whole else number  # type: ignore[call-overload]


def check_text(name: str, value: object) -> str:
    """``value``; EntryError unless it is a non-empty text that can be written as UTF-8."""
    try:
        good = isinstance(value, str) and bool(value.strip()) and bool(value.encode())
    except UnicodeEncodeError:  # a file name that is no UTF-8
        good = False
    if not good:
        raise EntryError(f"{name} must be a non-empty text that can be written as UTF-8, got {value!r}")
    return str(value)


def check_mapping(name: str, value: object) -> Mapping[str, Any]:
    """``value``, an empty mapping for None; EntryError for anything else that is no mapping."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise EntryError(f"{name} must be a mapping by name, got {value!r}")
    return value
