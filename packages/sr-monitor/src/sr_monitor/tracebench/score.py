"""How well a rule did on many traces: false alarms, delay, regret, cost. R runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sr_monitor.analysis.statistics import bootstrap, paired_bootstrap, wilson
from sr_monitor.tracebench import truth
from sr_monitor.tracebench.play import Outcome, Rule
from sr_monitor.tracebench.trace import Trace


@dataclass(frozen=True)
class Score:
    """One rule on R runs. regret_R in points; onset_R: where each run truly fell, or None."""

    outcome_R: tuple[Outcome, ...]
    onset_R: tuple[int | None, ...]
    regret_R: tuple[float, ...]

    @classmethod
    def of(cls, rule: Rule, traces: Sequence[Trace]) -> Score:
        outcomes = tuple(rule(trace) for trace in traces)
        return cls(
            outcomes,
            tuple(truth.onset(trace) for trace in traces),
            tuple(truth.regret(trace, o.kept) for trace, o in zip(traces, outcomes, strict=True)),
        )

    @property
    def false_alarms(self) -> int:
        """Runs with an alarm before they fell, or without ever falling."""
        pairs = zip(self.outcome_R, self.onset_R, strict=True)
        return sum(o.alarm is not None and (onset is None or o.alarm < onset) for o, onset in pairs)

    @property
    def delays(self) -> list[float]:
        """Evaluations from onset to alarm for each run that fell; infinite where the fall went unnoticed.

        A run that was ended by an alarm before it fell says nothing about delay.
        """
        pairs = zip(self.outcome_R, self.onset_R, strict=True)
        fell = [(o.alarm, onset) for o, onset in pairs if onset is not None]
        return [
            math.inf if alarm is None else float(alarm - onset)
            for alarm, onset in fell
            if alarm is None or alarm >= onset
        ]

    @property
    def evaluation_share(self) -> float:
        """Evaluation samples among all samples drawn while the rule let the runs go on."""
        drawn = sum(o.drawn for o in self.outcome_R)
        return drawn / max(1, drawn + sum(o.trained for o in self.outcome_R))

    def row(self, ours: Score) -> dict[str, Any]:
        """The numbers of one table row; ``regret_above_ours``: how much more regret than ``ours``, paired by run."""
        rate = wilson(self.false_alarms, len(self.outcome_R))
        regret, delays = bootstrap(self.regret_R), self.delays
        delay = float(np.median(delays)) if delays else math.inf
        more = paired_bootstrap(self.regret_R, ours.regret_R)
        return {
            "false_alarms": rate.estimate,
            "false_alarms_ci": [rate.low, rate.high],
            "falls": len(delays),
            "falls_found": sum(map(math.isfinite, delays)),
            "delay": delay if math.isfinite(delay) else None,
            "regret": regret.estimate,
            "regret_ci": [regret.low, regret.high],
            "regret_above_ours": more.estimate,
            "regret_above_ours_ci": [more.low, more.high],
            "evaluation_share": self.evaluation_share,
            "short": sum(o.short for o in self.outcome_R),
        }


def table(methods: Mapping[str, Mapping[str, Any]]) -> str:
    """Rows as text: false alarms with their interval, falls found, delay, regret and its intervals, cost."""
    lines = [
        f"{'rule':<28}{'false alarms':>22}{'falls seen':>12}{'delay':>7}{'regret':>8}{'95%':>14}{'above ours':>12}"
        f"{'95%':>14}{'cost':>7}"
    ]
    for name, row in methods.items():
        alarms = f"{row['false_alarms']:.1%} ({row['false_alarms_ci'][0]:.1%}-{row['false_alarms_ci'][1]:.1%})"
        low, high = row["regret_ci"]
        more, less = row["regret_above_ours_ci"]
        lines.append(
            f"{name:<28}{alarms:>22}{row['falls_found']:>8}/{row['falls']:<3}"
            f"{_delay(row):>7}{row['regret']:>8.1f}"
            f"{low:>7.1f}{high:>7.1f}{row['regret_above_ours']:>12.1f}{more:>7.1f}{less:>7.1f}"
            f"{row['evaluation_share']:>7.0%}"
        )
    return "\n".join(lines)


def _delay(row: Mapping[str, Any]) -> str:
    if not row["falls"]:
        return "-"
    return "never" if row["delay"] is None else f"{row['delay']:g}"
