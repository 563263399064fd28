"""What a trainer says of a campaign, read and checked: how each capability changed, and how well that is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sr_care.entry import check_capability
from sr_care.errors import check_mapping, check_number


def deltas(outcome: Mapping[str, Any]) -> dict[str, float]:
    """After minus before of every capability measured both times."""
    before, after = _measured("before", outcome), _measured("after", outcome)
    return {name: after[name] - before[name] for name in sorted(before.keys() & after.keys(), key=check_capability)}


def _measured(part: str, outcome: Mapping[str, Any]) -> dict[str, float]:
    """The capabilities that ``part`` of an outcome has a value for; EntryError for one that is no share."""
    values = check_mapping(f"outcome.{part}", outcome.get(part))
    for name, value in values.items():
        check_capability(name)
        check_number(f"outcome.{part}.{name}", value, 0, 1, optional=True)
    return {name: float(value) for name, value in values.items() if value is not None}


def covariance(outcome: Mapping[str, Any], names: Sequence[str], default_error: float) -> tuple[tuple[float, ...], ...]:
    """Of the measured changes ``names``: what the outcome says of each pair under ``covariance``, else independent with
    their standard errors ``se``, else with ``default_error``."""
    errors = check_mapping("outcome.se", outcome.get("se"))
    given = {
        name: check_mapping(f"outcome.covariance.{name}", row)
        for name, row in check_mapping("outcome.covariance", outcome.get("covariance")).items()
    }
    for name in (*errors, *given, *(other for row in given.values() for other in row)):
        check_capability(name)
    se = {n: errors[n] if errors.get(n) is not None else default_error for n in names}
    for name in names:
        check_number(f"the standard error of {name}", se[name], 0)
    rows = [[given.get(a, {}).get(b, se[a] ** 2 if a == b else 0.0) for b in names] for a in names]
    for a, row in zip(names, rows, strict=True):
        for b, value in zip(names, row, strict=True):
            check_number(f"the covariance of {a} and {b}", value)
    return tuple(map(tuple, rows))
