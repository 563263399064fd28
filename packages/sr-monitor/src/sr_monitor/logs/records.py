"""Clean records from the raw rows of any log."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sr_monitor.analysis.curve import OURS, Metric
from sr_monitor.analysis.runs import Record
from sr_monitor.errors import MonitorError
from sr_monitor.logs.columns import EVALUATION, Found, find, names, step_columns

RawRow = Mapping[str, Any]
# Values of our own logs that are no numbers.
_OURS_ONLY = ("heldout_passes", "heldout_samples", "decision")


@dataclass(frozen=True, kw_only=True)
class Size:
    """The size of one evaluation, where the user gives it: tasks, samples of each."""

    tasks: int | None = None
    samples: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("--tasks", self.tasks), ("--samples", self.samples)):
            if value is not None and value < 1:
                raise MonitorError(f"{name}: must be at least 1, got {value}")


@dataclass(frozen=True, kw_only=True)
class Cleaned:
    """records in the order of their steps; values: the finite numbers of every column; rows: with a step."""

    records: tuple[Record, ...]
    found: Found
    values: Mapping[str, Sequence[float]]
    rows: int
    notes: tuple[str, ...]


def clean(rows: Sequence[RawRow], columns: Mapping[str, str], size: Size) -> Cleaned:
    """Records from raw rows, and notes on what was odd.

    Rows of the same campaign and step are merged, later values over earlier ones (a trainer that logs its evaluations
    apart, or a log continued after a resume). Rows out of order are sorted. A held-out value that is not a finite
    number counts as not measured. ``columns``: our name -> the log's name, before any pattern.
    """
    rows = [row for row in rows if row]
    values = numbers_of(rows)
    found = find(values, columns)
    metric, steps = found.metric, (columns["step"],) if "step" in columns else _steps(rows, set(values))
    merged: dict[tuple[int, int], dict[str, Any]] = {}
    last = (-1, -1)
    repeated = disordered = stepless = 0
    for row in rows:
        step = next((s for name in steps if (s := step_of(row.get(name))) is not None), None)
        if step is None:
            stepless += 1
            continue
        place = (whole(row.get("campaign")) or 0, step)
        translated = _translated(row, found)
        repeated += place in merged and OURS in translated and OURS in merged[place]
        disordered += place < last
        merged.setdefault(place, {}).update(translated)
        last = place
    if not merged:
        raise MonitorError(
            f"log: no row holds a whole number under 'step'; name the column with --column step=NAME, one of "
            f"{', '.join(sorted(values)[:12]) or 'none'}"
        )
    strange = sum(not _measured(v[OURS]) for v in merged.values() if OURS in v)
    counted = [
        (repeated, "step(s) were logged more than once; the later row counts"),
        (disordered, "row(s) were out of order and were sorted"),
        (stepless, "row(s) without a step were left out"),
        (strange, "evaluation(s) were not finite numbers and count as not measured"),
    ]
    records = tuple(_record(place, v, metric, size) for place, v in sorted(merged.items()))
    notes = (*found.notes, *(f"{count} {text}" for count, text in counted if count))
    return Cleaned(records=records, found=found, values=values, rows=len(merged), notes=notes)


def _steps(rows: Sequence[RawRow], present: set[str]) -> tuple[str, ...]:
    """The step's columns: the first kind of name that most rows hold, else the one that the most rows hold."""
    covered = [
        (sum(any(step_of(row.get(name)) is not None for name in group) for row in rows), group)
        for group in step_columns(present)
    ]
    most = next((group for count, group in covered if 2 * count > len(rows)), None)
    return most or max(covered, default=(0, ()), key=lambda pair: pair[0])[1]


def numbers_of(rows: Sequence[RawRow]) -> dict[str, list[float]]:
    """The finite numbers of every column, its name kept where it holds none."""
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        for key, value in row.items():
            if key in _OURS_ONLY:
                continue
            number = number_of(value)
            if number is not None and math.isfinite(number):
                values[str(key)].append(number)
            else:
                _ = values[str(key)]
    return dict(values)


def number_of(value: Any) -> float | None:
    """A float (NaN and infinity included) from a number or its text, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def whole(value: Any) -> int | None:
    number = number_of(value)
    return int(number) if _measured(number) and number == int(number or 0) else None


def step_of(value: Any) -> int | None:
    """A step: a whole number, or the first of ``10/438``."""
    if isinstance(value, str) and "/" in value:
        value = value.partition("/")[0]
    return whole(value)


def _translated(row: RawRow, found: Found) -> dict[str, Any]:
    """The values of a row under our names; the held-out metric as ``heldout_pass1`` whatever its kind."""
    values: dict[str, Any] = {}
    named = {OURS: found.metric.columns} if found.metric is not None else {}
    for ours, theirs in {**found.signals, **named}.items():
        numbers = [number for key in theirs if (number := number_of(row.get(key))) is not None]
        if numbers and (ours != OURS or len(numbers) == len(theirs)):
            values[ours] = sum(numbers) / len(numbers)
    for key in _OURS_ONLY:
        if row.get(key) is not None:
            values[key] = row[key]
    return values


def _record(place: tuple[int, int], values: Mapping[str, Any], metric: Metric | None, size: Size) -> Record:
    heldout, decision, counts = values.get(OURS), values.get("decision"), values.get("heldout_passes")
    heldout = heldout if _measured(heldout) else None
    se = values.get("heldout_se")
    se = se if _measured(se) else None
    if metric is not None and metric.percent:
        heldout, se = (None if v is None else v / 100 for v in (heldout, se))
    known = heldout is not None and isinstance(counts, Sequence) and values.get("heldout_samples")
    tasks = size.tasks or values.get("tasks")
    each = size.samples or values.get("samples_per_task") or (metric.samples_per_task if metric is not None else None)
    if tasks and not each:
        each = 1  # the fewest, so the noise is not understated
    record = Record(
        campaign=place[0],
        step=place[1],
        heldout=heldout,
        se=se,
        total_samples=round(tasks * each) if tasks and each else None,
        signals={k: v for k, v in values.items() if k in names()["signals"] and k not in EVALUATION},
        decision=decision if isinstance(decision, Mapping) else {},
    )
    if not known or counts is None:
        return record
    return replace(record, passes=tuple(int(c) for c in counts), samples=int(values["heldout_samples"]))


def _measured(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
