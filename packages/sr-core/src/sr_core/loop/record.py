"""The record of one step: what ``metrics.jsonl`` holds of it, and what a guard is told."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from sr_core.batch import SampleStats
from sr_core.evaluation.evaluate import HeldOut
from sr_core.optim.update import UpdateStats
from sr_core.protocols import Decision

__all__ = ["Row", "Seconds", "StepRecord"]

Row = dict[str, Any]  # a step record as JSON: the keys of ``metrics.jsonl``
Part = TypeVar("Part")
HELDOUT = "heldout_"
DECISION = ("action", "rule", "value", "limit", "reason", "to_step")


@dataclass(kw_only=True)
class Seconds:
    """Wall clock of the phases of a step."""

    rollout: float = 0.0
    grade: float = 0.0
    update: float = 0.0
    evaluate: float = 0.0

    @contextmanager
    def clock(self, phase: str) -> Iterator[None]:
        """Add the time spent inside to ``phase``."""
        began = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, phase, getattr(self, phase) + round(time.perf_counter() - began, 4))


@dataclass(kw_only=True)
class StepRecord:
    """One step of a campaign; step 0 is before any update. None: not measured at this step.

    ``lr``: the rate that was applied, warm-up included. ``penalty``: the penalty's coefficient, None without one.
    ``finite``: whether the update was taken and the policy could be sampled from. ``heldout``: the step's first
    evaluation; ``last_iterate``: of the last iterate, where weights are averaged and a guard asked for it.
    ``decision``: what the guard decided, as JSON.
    """

    campaign: int
    step: int
    lr: float
    entropy_bonus: float
    penalty: float | None = None
    finite: bool = True
    samples: SampleStats = field(default_factory=SampleStats)
    update: UpdateStats = field(default_factory=UpdateStats)
    heldout: HeldOut | None = None
    last_iterate: HeldOut | None = None
    evaluation_samples: int = 0
    seconds: Seconds = field(default_factory=Seconds)
    decision: dict[str, Any] | None = None
    examples: list[dict[str, Any]] = field(default_factory=list)  # completions of the evaluation, for samples.jsonl

    def decide(self, decision: Decision) -> None:
        """Note what the guard decided."""
        self.decision = {key: getattr(decision, key) for key in DECISION}

    def signals(self) -> dict[str, float | None]:
        """The step's numbers, for the guard."""
        return {**asdict(self.samples), **asdict(self.update), "finite": float(self.finite), "lr": self.lr}

    def to_row(self) -> Row:
        """The row of ``metrics.jsonl``."""
        row = {
            "campaign": self.campaign,
            "step": self.step,
            **asdict(self.samples),
            **asdict(self.update),
            **_heldout_row(self.heldout),
            "last_iterate": None if self.last_iterate is None else _heldout_row(self.last_iterate),
            "finite": float(self.finite),
            "lr": self.lr,
            "evaluation_samples": self.evaluation_samples,
            "penalty": self.penalty,
            "entropy_bonus": self.entropy_bonus,
            "seconds": asdict(self.seconds),
            "decision": self.decision,
        }
        return {key: _finite(value) for key, value in row.items()}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> StepRecord:
        """The record that ``to_row`` gave ``row``; keys that older versions did not write are None."""
        last = row.get("last_iterate")
        return cls(
            campaign=row["campaign"],
            step=row["step"],
            lr=row["lr"],
            entropy_bonus=row["entropy_bonus"],
            penalty=row["penalty"],
            finite=bool(row["finite"]),
            samples=_part(SampleStats, row),
            update=_part(UpdateStats, row),
            heldout=_heldout(row),
            last_iterate=None if last is None else _heldout(last),
            evaluation_samples=row["evaluation_samples"],
            seconds=Seconds(**row["seconds"]),
            decision=row["decision"],
        )


def _part(kind: type[Part], row: Mapping[str, Any], prefix: str = "") -> Part:
    return kind(**{f.name: row.get(prefix + f.name) for f in fields(kind)})  # type: ignore[arg-type]


def _heldout(row: Mapping[str, Any]) -> HeldOut | None:
    return None if row[f"{HELDOUT}pass1"] is None else _part(HeldOut, row, HELDOUT)


def _heldout_row(heldout: HeldOut | None) -> Row:
    return {HELDOUT + f.name: None if heldout is None else getattr(heldout, f.name) for f in fields(HeldOut)}


def _finite(value: Any) -> Any:
    """JSON has no NaN: a number that is not finite was not measured."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
