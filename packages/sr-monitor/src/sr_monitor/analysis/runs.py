"""A recorded run, whoever trained it: one record per step, cleaned, with the signals under our names."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sr_monitor.analysis.trajectory import Trajectory
from sr_monitor.errors import MonitorError

RawRow = Mapping[str, Any]

# Our name -> patterns of the names other trainers log it under, the most specific first. The first pattern that
# matches anything in a run is used for the whole run; several matching columns (data sources) are averaged.
PATTERNS: dict[str, tuple[str, ...]] = {
    "heldout_pass1": (
        r"(eval[_/])?heldout_pass@?1",
        r"val-core/.+/(acc|score|reward)/mean@\d+",
        r"val/test_score/.+",
        r"(eval[_/])+pass@?1",
        r"(eval[_/])+.+_pass1",
        r"(eval[_/])?accuracy",
        r"eval[_/]reward(_mean)?",
    ),
    "heldout_se": (r"heldout_se",),
    "tasks": (r"tasks",),
    "samples_per_task": (r"samples_per_task",),
    "train_reward": (r"train_reward", r"(train/)?reward", r"critic/score/mean", r"critic/rewards/mean"),
    "entropy": (r"(train/)?entropy", r"actor/entropy(_loss)?", r"train/entropy_loss"),
    "grad_norm": (r"(train/|actor/)?grad_norm", r"train/actor_grad_norm"),
    "kl": (r"(train/)?kl", r"actor/kl_loss", r"actor/ppo_kl"),
    "length": (r"length", r"(train/)?completions/mean_length", r"response_length/mean", r"(train/)?response_length"),
    "truncated": (
        r"truncated",
        r"(train/)?completions/clipped_ratio",
        r"response_length/clip_ratio",
        r"train/truncated(_rate)?",
    ),
    "zero_std_groups": (r"zero_std_groups", r"(train/)?frac_reward_zero_std"),
    "unique_share": (r"unique_share",),
    "loss": (r"(train/)?loss", r"actor/pg_loss", r"(train/)?policy_loss"),
    "lr": (r"lr", r"(train/)?learning_rate", r"actor/lr", r"(train/)?actor_lr"),
    "finite": (r"finite",),
}
EVALUATION = ("heldout_pass1", "heldout_se", "tasks", "samples_per_task")


@dataclass(frozen=True)
class Record:
    """One step. pass1, se: held-out, None where not evaluated; passes: passing counts per task, of ``samples``."""

    campaign: int
    step: int
    pass1: float | None = None
    se: float | None = None
    total_samples: int | None = None
    passes: tuple[int, ...] | None = None
    samples: int | None = None
    signals: Mapping[str, float] = field(default_factory=dict)
    decision: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Campaign:
    """The records of one campaign, in the order of their steps. kept: pass@1 of the policy handed on, of ``kept_step``,
    which need not be that of the step's record (of means of iterates the last iterate may be kept)."""

    number: int
    records: tuple[Record, ...]
    kept_step: int | None = None
    kept: float | None = None

    @property
    def trajectory(self) -> Trajectory | None:
        """Every evaluation that was made, or None without one."""
        return _trajectory(self.records)

    @property
    def surviving(self) -> Trajectory | None:
        """The evaluations on the way to the policy in hand: without what was rolled back, or came after the policy
        handed on."""
        alive: list[Record] = []
        for record in self.records:
            alive.append(record)
            if record.step == self.kept_step:
                break
            to = record.decision.get("to_step")
            if record.decision.get("action") == "roll_back" and to is not None:
                alive = [r for r in alive if r.step <= to]
        return _trajectory(alive)

    @property
    def undone(self) -> bool:
        """Whether the last step is no part of the policy in hand: a guard undid it, or an earlier one was handed on."""
        last = self.records[-1]
        handed_on_earlier = self.kept_step is not None and self.kept_step < last.step
        return handed_on_earlier or last.decision.get("action") in ("roll_back", "stop")


@dataclass(frozen=True)
class Run:
    """A run read from disk. notes: what was odd about the log and how it was taken, one sentence each."""

    path: Path
    name: str
    format: str
    records: tuple[Record, ...]
    notes: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    samples: tuple[Mapping[str, Any], ...] = ()

    @property
    def campaigns(self) -> tuple[Campaign, ...]:
        numbers = sorted({r.campaign for r in self.records})
        return tuple(
            Campaign(
                number,
                tuple(r for r in self.records if r.campaign == number),
                self.summary_of(number).get("kept_step"),
                self.summary_of(number).get("kept"),
            )
            for number in numbers
        )

    def summary_of(self, campaign: int) -> Mapping[str, Any]:
        """What the run's summary says about ``campaign``; empty if nothing."""
        told = self.summary.get("campaigns", ())
        return next((c for c in told if isinstance(c, Mapping) and c.get("campaign") == campaign), {})

    @property
    def finished(self) -> bool:
        return bool(self.summary)


def records_of(
    rows: Iterable[RawRow], columns: Mapping[str, str] | None = None
) -> tuple[tuple[Record, ...], tuple[str, ...]]:
    """Clean records from raw rows, and notes on what was odd.

    Rows of the same campaign and step are merged, later values over earlier ones (a trainer that logs its
    evaluations apart, or a log continued after a resume). Rows out of order are sorted. A pass@1 that is not a
    finite number counts as not measured. ``columns``: our name -> the log's name, before any pattern.
    """
    rows = [row for row in rows if row]
    step_column = (columns or {}).get("step", "step")
    names = _columns({key for row in rows for key in row}, columns or {})
    merged: dict[tuple[int, int], dict[str, Any]] = {}
    last = (-1, -1)
    repeated = disordered = stepless = 0
    for row in rows:
        step = _whole(row.get(step_column))
        if step is None:
            stepless += 1
            continue
        place = (_whole(row.get("campaign")) or 0, step)
        values = _translated(row, names)
        repeated += place in merged and "heldout_pass1" in values and "heldout_pass1" in merged[place]
        disordered += place < last
        merged.setdefault(place, {}).update(values)
        last = place
    if not merged:
        raise MonitorError("log: no row holds a whole number under 'step'; name the column with --column step=NAME")
    strange = sum(not _measured(v.get("heldout_pass1")) for v in merged.values() if "heldout_pass1" in v)
    notes = [
        (repeated, "step(s) were logged more than once; the later row counts"),
        (disordered, "row(s) were out of order and were sorted"),
        (stepless, "row(s) without a step were left out"),
        (strange, "evaluation(s) were not finite numbers and count as not measured"),
    ]
    records = tuple(_record(*place, values) for place, values in sorted(merged.items()))
    return records, tuple(f"{count} {text}" for count, text in notes if count)


def _columns(present: set[str], given: Mapping[str, str]) -> dict[str, list[str]]:
    """Our name -> the log's columns for it."""
    for ours, theirs in given.items():
        if ours != "step" and ours not in PATTERNS:
            raise MonitorError(f"column map: unknown name {ours!r}; choose from step, {', '.join(sorted(PATTERNS))}")
        if theirs not in present:
            raise MonitorError(
                f"column map: the log has no column {theirs!r}; it has {', '.join(sorted(present)[:20])}"
            )
    names: dict[str, list[str]] = {}
    for ours, patterns in PATTERNS.items():
        if ours in given:
            names[ours] = [given[ours]]
            continue
        for pattern in patterns:
            found = sorted(key for key in present if re.fullmatch(pattern, key))
            if found:
                names[ours] = found
                break
    return names


def _translated(row: RawRow, names: Mapping[str, list[str]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for ours, theirs in names.items():
        found = [number for key in theirs if (number := _number(row.get(key))) is not None]
        if found:
            values[ours] = sum(found) / len(found)
    for key in ("heldout_passes", "heldout_samples", "decision"):
        if row.get(key) is not None:
            values[key] = row[key]
    return values


def _record(campaign: int, step: int, values: Mapping[str, Any]) -> Record:
    pass1 = values.get("heldout_pass1")
    decision = values.get("decision")
    counts = values.get("heldout_passes")
    known = _measured(pass1) and isinstance(counts, Sequence) and values.get("heldout_samples")
    se = values.get("heldout_se")
    tasks, each = values.get("tasks"), values.get("samples_per_task")
    return Record(
        campaign=campaign,
        step=step,
        pass1=pass1 if _measured(pass1) else None,
        se=se if _measured(se) else None,
        total_samples=round(tasks * each) if tasks and each else None,
        passes=tuple(int(c) for c in counts) if known and counts is not None else None,
        samples=int(values["heldout_samples"]) if known else None,
        signals={k: v for k, v in values.items() if k in PATTERNS and k not in EVALUATION},
        decision=decision if isinstance(decision, Mapping) else {},
    )


def _trajectory(records: Iterable[Record]) -> Trajectory | None:
    seen = [r for r in records if r.pass1 is not None]
    if not seen:
        return None
    steps = [r.step for r in seen]
    if all(r.passes is not None and len(r.passes) == len(seen[0].passes or ()) for r in seen):
        return Trajectory.from_counts(steps, [r.passes or () for r in seen], [r.samples or 1 for r in seen])
    rates = [r.pass1 if r.pass1 is not None else math.nan for r in seen]
    if all(r.se is not None for r in seen):
        return Trajectory.from_rates(steps, rates, se=[r.se or 0.0 for r in seen])
    totals = [r.total_samples for r in seen if r.total_samples]
    return Trajectory.from_rates(steps, rates, total_samples=min(totals) if totals else None)


def _number(value: Any) -> float | None:
    """A float (NaN and infinity included) from a number or its text, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def _whole(value: Any) -> int | None:
    number = _number(value)
    return int(number) if _measured(number) and number == int(number or 0) else None


def _measured(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
