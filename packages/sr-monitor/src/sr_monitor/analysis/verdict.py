"""The judgement on a recorded run: is its fall real, how large is it, and what to do."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from sr_monitor.analysis.advice import where_nothing_is_known
from sr_monitor.analysis.curve import Curve
from sr_monitor.analysis.margin import limits_of
from sr_monitor.analysis.noise import null_of_curve, p_value_by_scatter
from sr_monitor.analysis.runs import Campaign, Run

SIGNIFICANCE = 0.05
FEWEST_EVALUATIONS = 3
# Fewer points than this say too little about their own noise.
FEWEST_FOR_NOISE = 6
VERDICTS = ("healthy", "at_risk", "collapsed", "insufficient")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """verdict: ``healthy``, ``at_risk`` (a real fall, not yet a collapse), ``collapsed`` or ``insufficient``.

    column: what was judged, None where nothing could be. action: ``continue``, ``roll_back``, ``stop`` or ``evaluate``
    (more). gap: by how much the current policy is below the peak, on the column's scale (a pass rate: 0..1).
    p_value: how often a policy that never changes shows as large a gap. onset_step: where the fall begins.
    """

    path: str
    verdict: str
    column: str | None = None
    peak_step: int | None = None
    onset_step: int | None = None
    gap: float | None = None
    p_value: float | None = None
    action: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def judge(run: Run) -> Verdict:
    """Judge the last campaign of ``run``, on the evaluations that lead to the current policy."""
    campaigns = run.campaigns
    if not campaigns:
        why = " ".join(["The log holds no metrics.", *run.notes])
        return Verdict(path=str(run.path), verdict="insufficient", action="evaluate", reason=why)
    verdict = _judge_campaign(run, campaigns[-1])
    before = [c.surviving for c in campaigns[:-1]]
    lost = sum(t is not None and t.trajectory is not None and t.trajectory.collapsed for t in before)
    if not lost:
        return verdict
    return replace(verdict, reason=f"{verdict.reason} {lost} of the {len(before)} campaigns before it ended collapsed.")


def _judge_campaign(run: Run, campaign: Campaign) -> Verdict:
    path, broken = str(run.path), _broken(campaign)
    curve = None if run.metric is None else campaign.surviving
    if curve is None:
        if broken:
            return Verdict(path=path, verdict="at_risk", action="stop", reason=broken)
        why = where_nothing_is_known(run, campaign)
        return Verdict(path=path, verdict="insufficient", action="evaluate", reason=why)
    p_value = _p_value(curve)
    finished = campaign.kept_step is not None
    made = sum(r.heldout is not None for r in campaign.records) if finished else len(curve.steps)
    verdict, action, why = _weigh(curve, p_value, made)
    why += _what_does_not_count(campaign)
    if broken and verdict == "collapsed":
        why += f" {broken[0].upper()}{broken[1:]}"
    elif broken:
        verdict, action, why = "at_risk", "roll_back" if len(curve.steps) > 1 else "stop", broken
    return Verdict(
        path=path,
        verdict=verdict,
        column=curve.metric.column,
        peak_step=curve.peak_step,
        onset_step=curve.onset_step if verdict == "collapsed" else None,
        gap=curve.gap,
        p_value=p_value,
        action=action,
        reason=why,
    )


def _p_value(curve: Curve) -> float | None:
    """How often noise alone shows the gap; None where the noise is not known and there are too few evaluations."""
    null = null_of_curve(curve) if np.isfinite(curve.se_E).all() else None
    if null is not None:
        return null.p_value(curve.gap)
    return None if len(curve.steps) < FEWEST_FOR_NOISE else p_value_by_scatter(curve)


def _what_does_not_count(campaign: Campaign) -> str:
    """Sentences on the steps that are not part of the current policy, each after a space."""
    said = ""
    rolled = sum(r.decision.get("action") == "roll_back" and r.decision.get("rule") != "kept" for r in campaign.records)
    if rolled:
        said += f" The guard rolled back {rolled} time(s); what was undone does not count."
    if campaign.kept_step is not None and campaign.kept_step < campaign.records[-1].step:
        said += f" The policy of step {campaign.kept_step} was kept; what came after it does not count."
    return said


def _weigh(curve: Curve, p_value: float | None, made: int) -> tuple[str, str, str]:
    """(verdict, action, reason) from the gap and its p-value; ``made``: evaluations there are to judge by."""
    margin, collapse = limits_of(curve)
    seen = _what_was_seen(curve)
    if made < FEWEST_EVALUATIONS:
        many = f"Too few evaluations of {curve.metric.label}: {made} of at least {FEWEST_EVALUATIONS}."
        return "insufficient", "evaluate", many
    if p_value is None and curve.gap <= margin:
        tolerated = f" (up to {curve.metric.show_difference(margin)} is tolerated)" if curve.gap else ""
        return "healthy", "continue", f"{seen}{tolerated}."
    if p_value is None:
        more = (
            f"{seen}; with {made} evaluations of unknown size the noise is unknown. Give the evaluation's size with "
            f"--tasks N --samples K, or log at least {FEWEST_FOR_NOISE} evaluations."
        )
        return "insufficient", "evaluate", more
    odds = f"a policy that never changes shows as large a gap {_chance(p_value)}"
    beyond = f"beyond the tolerated {curve.metric.show_difference(margin)}"
    if p_value <= SIGNIFICANCE and curve.gap > collapse:
        back = f"Go back to step {curve.peak_step} with a smaller learning rate."
        return "collapsed", "roll_back", f"{seen}; {odds}: the fall is real, and it is a collapse. {back}"
    if p_value <= SIGNIFICANCE and curve.gap > margin:
        back = f"Keep the checkpoint of step {curve.peak_step}, and consider going back to it."
        return "at_risk", "roll_back", f"{seen}; {odds}: the fall is real and {beyond}. {back}"
    if curve.gap > collapse:
        more = "Evaluate more tasks, or more samples of each, before trusting it."
        return "insufficient", "evaluate", f"{seen}, but {odds}: noise alone explains it. {more}"
    if curve.gap == 0:
        return "healthy", "continue", f"{seen}."
    small = "" if curve.gap > margin else f" (up to {curve.metric.show_difference(margin)} is tolerated)"
    return "healthy", "continue", f"{seen}{small}; {odds}."


def _what_was_seen(curve: Curve) -> str:
    metric = curve.metric
    label = (
        metric.label[0].upper() + metric.label[1:] if metric.label.startswith(("held-out", "the ")) else metric.label
    )
    extreme = "was lowest at" if metric.kind == "loss" else "peaked at"
    best = f"{label} {extreme} {metric.show(curve.peak)} (step {curve.peak_step})"
    if curve.gap == 0:
        return f"{best}, its last value" if curve.peak_step == curve.steps[-1] else f"{best} and is as good at the end"
    side = "above" if metric.kind == "loss" else "below"
    return f"{best} and is now {metric.show(curve.end)}, {metric.show_difference(curve.gap)} {side}"


def _chance(p_value: float) -> str:
    return "less than once in 1,000 campaigns" if p_value < 0.001 else f"in {p_value:.1%} of campaigns"


def _broken(campaign: Campaign) -> str | None:
    """A sentence if the last record of a campaign, if its policy is the current one, holds a non-finite number."""
    last = campaign.records[-1]
    if campaign.undone:
        return None
    evaluated = [record for record in campaign.records if record.heldout is not None]
    for record in evaluated[-1:]:
        if not math.isfinite(record.heldout or 0.0):
            return f"{campaign.metric.label} is not finite at step {record.step}: the weights may be broken."
    for name, value in last.signals.items():
        if not math.isfinite(value) or (name == "finite" and value == 0):
            return f"{name} is not finite at step {last.step}, the last one: the weights may be broken."
    return None
