"""What can go wrong in sr-care, as types."""

from __future__ import annotations

import math


class CareError(Exception):
    """Base of every error of this package: the rule, the value got and the way out, in one line."""


class EntryError(CareError):
    """A value that is no strategy, context, delta or configuration: nothing was written."""


class StoreError(CareError):
    """The memory file could not be opened, read or written: what it already held is untouched."""


def check_number(
    name: str,
    value: object,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    optional: bool = False,
    above: bool = False,
) -> None:
    """Raise EntryError unless ``value`` is a finite number in [low, high] (with ``above``: in (low, high]).

    ``optional`` lets None pass. Booleans are not numbers here.
    """
    if value is None and optional:
        return
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not low <= value <= high or (above and value == low):  # type: ignore[operator]
        bracket = "(" if above else "["
        way = "; leave it None where it was not measured" if optional else ""
        raise EntryError(f"{name} must be a finite number in {bracket}{low:g}, {high:g}], got {value!r}{way}")
