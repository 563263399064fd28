"""A recorded run, whoever trained it: one record per step, with the signals under our names."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sr_monitor.analysis.curve import PASS_AT_1, Curve, Metric
from sr_monitor.analysis.trajectory import Trajectory


@dataclass(frozen=True, kw_only=True)
class Record:
    """One step. heldout, se: on the scale of the run's metric, None where not evaluated; heldout is NaN where the
    evaluations have stopped being finite.

    passes: passing counts per task, of ``samples``. total_samples: tasks times samples per task.
    """

    campaign: int
    step: int
    heldout: float | None = None
    se: float | None = None
    total_samples: int | None = None
    passes: tuple[int, ...] | None = None
    samples: int | None = None
    signals: Mapping[str, float] = field(default_factory=dict)
    decision: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """The records of one campaign, in the order of their steps.

    kept: the held-out value of the policy carried forward, of ``kept_step``. It need not be that of the step's record:
    where steps stand for averages of iterates, the last iterate may be kept.
    """

    number: int
    records: tuple[Record, ...]
    kept_step: int | None = None
    kept: float | None = None
    metric: Metric = PASS_AT_1

    @property
    def curve(self) -> Curve | None:
        """Every evaluation that was made, or None without one."""
        return _curve(self.records, self.metric)

    @property
    def surviving(self) -> Curve | None:
        """The evaluations on the way to the current policy: without what was rolled back or came after the policy
        that was kept."""
        alive: list[Record] = []
        for record in self.records:
            alive.append(record)
            if record.step == self.kept_step:
                break
            to = record.decision.get("to_step")
            if record.decision.get("action") == "roll_back" and to is not None:
                alive = [r for r in alive if r.step <= to]
        return _curve(alive, self.metric)

    @property
    def undone(self) -> bool:
        """Whether the last step is not part of the current policy: a guard undid it, or an earlier one was kept."""
        last = self.records[-1]
        earlier = self.kept_step is not None and self.kept_step < last.step
        return earlier or last.decision.get("action") in ("roll_back", "stop")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A column that may be held-out. command: reads the log with it. evaluations: rows that hold a number."""

    column: str
    evaluations: int
    command: str


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What the trainer that wrote a log needs, as commands and settings. trainer: its name in a sentence."""

    trainer: str
    evaluate: str
    setting: str


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run read from disk.

    notes: what was odd about the log and how it was read, one sentence each. columns: a signal's name -> the log's.
    candidates: columns that could be held-out where none is known to be; unknown: further columns without a known
    name. checkpoints: (step, path) found on disk, in the order of their steps.
    """

    path: Path
    name: str
    format: str
    records: tuple[Record, ...]
    metric: Metric | None = PASS_AT_1
    notes: tuple[str, ...] = ()
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    candidates: tuple[Candidate, ...] = ()
    unknown: tuple[str, ...] = ()
    checkpoints: tuple[tuple[int, Path], ...] = ()
    advice: Advice | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    samples: tuple[Mapping[str, Any], ...] = ()

    @property
    def campaigns(self) -> tuple[Campaign, ...]:
        numbers = sorted({r.campaign for r in self.records})
        return tuple(
            Campaign(
                number=number,
                records=tuple(r for r in self.records if r.campaign == number),
                kept_step=self.summary_of(number).get("kept_step"),
                kept=self.summary_of(number).get("kept"),
                metric=self.metric or PASS_AT_1,
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


def _curve(records: Iterable[Record], metric: Metric) -> Curve | None:
    seen = [(r, r.heldout) for r in records if r.heldout is not None and math.isfinite(r.heldout)]
    if not seen:
        return None
    steps, values = [r.step for r, _ in seen], [value for _, value in seen]
    ses = [r.se for r, _ in seen if r.se is not None]
    se = ses if len(ses) == len(seen) else None
    totals = [r.total_samples for r, _ in seen if r.total_samples]
    total = min(totals) if totals else None
    if metric.kind == "pass_rate":
        counted = [(r.passes, r.samples or 1) for r, _ in seen if r.passes is not None]
        if len(counted) == len(seen) and len({len(passes) for passes, _ in counted}) == 1:
            passes_EM = [passes for passes, _ in counted]
            return Curve.of(Trajectory.from_counts(steps, passes_EM, [samples for _, samples in counted]), metric)
        return Curve.of(Trajectory.from_rates(steps, values, se=se, total_samples=None if se else total), metric)
    if se is None and total is not None and min(values) >= 0 and max(values) <= 1 and metric.kind == "score":
        # a score in 0..1 varies at most as much as a pass rate of its mean
        bound = Trajectory.from_rates(steps, values, total_samples=total)
        se = bound.standard_errors_E().tolist()
    return Curve.from_values(steps, values, se, metric)
