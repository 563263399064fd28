"""Clean records from the raw rows of any log."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sr_monitor.analysis.curve import OURS, Metric
from sr_monitor.analysis.runs import Record
from sr_monitor.errors import MonitorError
from sr_monitor.logs.columns import EVALUATION, Found, find, names, step_columns

RawRow = Mapping[str, Any]
_Place = tuple[int, int]  # campaign, step
_Values = dict[str, Any]  # under our names
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d*)?")
# Larger numbers come from weights that are broken, and their squares would overflow.
_LARGEST = 1e100
# A log whose steps go back more often, as a share of its rows, is in no order, hence shows no resume.
_MOST_RESUMES = 0.25
# Finite evaluations before others that are not, from which on the latter are no gaps.
_FEWEST_BEFORE_DIVERGING = 2
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
    apart). A log that goes back to steps it has logged before was resumed there: what the attempt before it logged
    beyond does not count. Other rows out of order are sorted. A row without a step belongs to the one before it. A
    held-out value that is not a finite number counts as not measured, but see ``_diverged``. ``columns``: our name ->
    the log's name, before any pattern.
    """
    rows = [row for row in rows if row]
    values = numbers_of(rows)
    found = find(values, columns)
    steps = (columns["step"],) if "step" in columns else _steps(rows, set(values))
    placed, stepless = _placed(rows, steps, found)
    if not placed:
        raise MonitorError(
            f"log: no row holds a whole number under 'step'; name the column with --column step=NAME, one of "
            f"{', '.join(sorted(values)[:12]) or 'none'}"
        )
    merged, notes = _merged(placed)
    strange = sum(not _measured(v[OURS]) for v in merged.values() if OURS in v)
    counted = [
        (stepless, "row(s) without a step were left out"),
        (strange, "evaluation(s) were not finite numbers and count as not measured"),
    ]
    records = [_record(place, v, found.metric, size) for place, v in sorted(merged.items())]
    if diverged := _diverged([place for place, v in sorted(merged.items()) if OURS in v], merged):
        records = [replace(r, heldout=math.nan) if (r.campaign, r.step) in diverged else r for r in records]
    notes = [*found.notes, *notes, *(f"{count} {text}" for count, text in counted if count)]
    return Cleaned(records=tuple(records), found=found, values=values, rows=len(merged), notes=tuple(notes))


def _placed(rows: Sequence[RawRow], steps: Sequence[str], found: Found) -> tuple[list[tuple[_Place, _Values]], int]:
    """((campaign, step), values under our names) of the rows in their order; how many have no step."""
    placed: list[tuple[_Place, _Values]] = []
    stepless = 0
    for row in rows:
        step = next((s for name in steps if (s := step_of(row.get(name))) is not None), None)
        translated = _translated(row, found)
        if step is not None:
            placed.append(((whole(row.get("campaign")) or 0, step), translated))
        elif placed and translated and not any(_said(row.get(name)) for name in steps):
            placed.append((placed[-1][0], translated))
        else:
            stepless += 1
    return placed, stepless


def _merged(placed: Sequence[tuple[_Place, _Values]]) -> tuple[dict[_Place, _Values], list[str]]:
    """The values of every place, and notes on the order of the rows."""
    kept, undone, disordered = _without_undone(placed)
    merged: dict[_Place, _Values] = {}
    repeated = 0
    for place, values in kept:
        repeated += OURS in values and OURS in merged.get(place, ())
        merged.setdefault(place, {}).update(values)
    counted = [
        (undone, "step(s) were logged before the log was resumed at an earlier one and do not count"),
        (repeated, "step(s) were logged more than once; the later row counts"),
        (disordered, "row(s) were out of order and were sorted"),
    ]
    return merged, [f"{count} {text}" for count, text in counted if count]


def _without_undone(placed: Sequence[tuple[_Place, _Values]]) -> tuple[list[tuple[_Place, _Values]], int, int]:
    """The rows that no later resume undid, how many places were undone, how many other rows go back."""
    logged: dict[_Place, set[str]] = defaultdict(set)
    back: list[int] = []
    resumed: set[int] = set()
    last = placed[0][0]
    for number, (place, values) in enumerate(placed):
        if place < last:
            back.append(number)
            if logged[place] & values.keys():
                resumed.add(number)
        logged[place] |= values.keys()
        last = place
    if len(back) > max(1, _MOST_RESUMES * len(placed)):  # the rows are in no order
        return [*placed], 0, len(back)
    kept: list[tuple[_Place, _Values]] = []
    undone: set[_Place] = set()
    earliest = max(logged)
    for number in reversed(range(len(placed))):
        place = placed[number][0]
        if place <= earliest:
            kept.append(placed[number])
        else:
            undone.add(place)
        if number in resumed:
            earliest = min(earliest, place)
    return kept[::-1], len(undone), len(back) - len(resumed)


def _diverged(evaluated: Sequence[_Place], merged: Mapping[_Place, _Values]) -> set[_Place]:
    """The last evaluations if they are not finite and all before them are: the policy is broken.

    Not finite values between others are gaps, as tables have them that hold NaN where nothing was measured.
    """
    finite = [_measured(merged[place][OURS]) for place in evaluated]
    begun = sum(finite)
    if begun < _FEWEST_BEFORE_DIVERGING or not all(finite[:begun]):
        return set()
    return set(evaluated[begun:])


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
    """A float (NaN and infinity included) from a number or its text (``0.5``, ``50%``, ``1,000``), else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
        return math.copysign(math.inf, number) if abs(number) > _LARGEST else number
    except OverflowError:  # a whole number beyond all floats
        return math.inf
    except ValueError:
        text = str(value).strip()
    if text.endswith("%"):
        share = number_of(text[:-1])
        return None if share is None else share / 100
    return float(text.replace(",", "")) if _THOUSANDS.fullmatch(text) else None


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


def _record(place: _Place, values: _Values, metric: Metric | None, size: Size) -> Record:
    heldout, se = (value if _measured(value) else None for value in (values.get(OURS), values.get("heldout_se")))
    if metric is not None and metric.percent:
        heldout, se = (None if v is None else v / 100 for v in (heldout, se))
    if metric is not None and metric.kind == "pass_rate" and heldout is not None:
        heldout = min(1.0, max(0.0, heldout))  # a mean of ones in float32 may be rounded beyond one
    named = metric.samples_per_task if metric is not None else None
    tasks = size.tasks or _counted(values.get("tasks"))
    each = size.samples or _counted(values.get("samples_per_task")) or named
    if tasks and not each:
        each = 1  # the fewest, so the noise is not understated
    decision = values.get("decision")
    record = Record(
        campaign=place[0],
        step=place[1],
        heldout=heldout,
        se=se,
        total_samples=round(tasks * each) if tasks and each else None,
        signals={k: v for k, v in values.items() if k in names()["signals"] and k not in EVALUATION},
        decision=decision if isinstance(decision, Mapping) else {},
    )
    passes, samples = values.get("heldout_passes"), whole(values.get("heldout_samples"))
    if heldout is None or samples is None or not isinstance(passes, list):
        return record
    counts = [whole(count) for count in passes]
    known = [count for count in counts if count is not None and 0 <= count <= samples]
    return replace(record, passes=tuple(known), samples=samples) if known and len(known) == len(passes) else record


def _counted(value: float | None) -> float | None:
    """A number of tasks or samples; None for what cannot be one."""
    return value if value is not None and math.isfinite(value) and value >= 1 else None


def _said(value: Any) -> bool:
    """Whether a cell says anything: it is not empty, and not the NaN that stands for an empty one."""
    return value is not None and str(value).strip().lower() not in ("", "nan", "none", "null")


def _measured(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
