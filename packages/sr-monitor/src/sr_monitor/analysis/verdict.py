"""The judgement on a recorded run: is its fall real, how large is it, and what to do."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from sr_monitor.analysis.noise import null_of
from sr_monitor.analysis.runs import Campaign, Run
from sr_monitor.analysis.trajectory import COLLAPSE_GAP, Trajectory

SIGNIFICANCE = 0.05
# A real fall up to this is let pass, as by the guard.
MARGIN = 0.05
FEWEST_EVALUATIONS = 3
# Fewer points than this say too little about their own noise.
FEWEST_FOR_NOISE = 6


@dataclass(frozen=True)
class Verdict:
    """verdict: ``healthy``, ``at_risk`` (a real fall, not yet a collapse), ``collapsed`` or ``insufficient``.

    action: ``continue``, ``roll_back``, ``stop`` or ``evaluate`` (more). gap: peak minus end of the policy in hand.
    p_value: how often a policy that never changes shows as large a gap. onset_step: where the fall sets in.
    """

    path: str
    verdict: str
    peak_step: int | None
    onset_step: int | None
    gap: float | None
    p_value: float | None
    action: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def judge(run: Run) -> Verdict:
    """Judge the last campaign of ``run``, on the evaluations that lead to the policy in hand."""
    campaigns = run.campaigns
    verdict = _judge_campaign(str(run.path), campaigns[-1])
    before = [c.surviving for c in campaigns[:-1]]
    lost = sum(t is not None and t.collapsed for t in before)
    if not lost:
        return verdict
    reason = f"{verdict.reason} {lost} of the {len(before)} campaigns before it ended collapsed."
    return Verdict(**{**asdict(verdict), "reason": reason})


def _judge_campaign(path: str, campaign: Campaign) -> Verdict:
    broken = _broken(campaign)
    curve = campaign.surviving
    if curve is None:
        if broken:
            return Verdict(path, "at_risk", None, None, None, None, "stop", broken)
        why = "The log holds no held-out evaluation; training reward alone says nothing about a collapse."
        return Verdict(path, "insufficient", None, None, None, None, "evaluate", why)
    known = _with_noise(curve)
    null = None if known is None else null_of(known)
    p_value = None if null is None else null.p_value(curve.gap)
    if broken:
        action = "roll_back" if len(curve.steps) > 1 else "stop"
        return Verdict(path, "at_risk", curve.peak_step, None, curve.gap, p_value, action, broken)
    finished = campaign.kept_step is not None
    made = sum(r.pass1 is not None for r in campaign.records) if finished else len(curve.steps)
    verdict, action, why = _weigh(curve, p_value, made)
    onset = curve.onset if verdict == "collapsed" else None
    why += _what_does_not_count(campaign)
    return Verdict(path, verdict, curve.peak_step, onset, curve.gap, p_value, action, why)


def _what_does_not_count(campaign: Campaign) -> str:
    """Sentences on the steps that the policy in hand has not gone through, each after a space."""
    said = ""
    rolled = sum(r.decision.get("action") == "roll_back" for r in campaign.records)
    if rolled:
        said += f" The guard rolled back {rolled} time(s); what was undone does not count."
    if campaign.kept_step is not None and campaign.kept_step < campaign.records[-1].step:
        said += f" The policy of step {campaign.kept_step} was handed on; what came after it does not count."
    return said


def _weigh(curve: Trajectory, p_value: float | None, made: int) -> tuple[str, str, str]:
    """(verdict, action, reason) from the gap and its p-value; ``made``: evaluations there are to judge by."""
    seen = (
        f"Held-out pass@1 peaked at {curve.peak:.1%} (step {curve.peak_step}) and stands at {curve.end:.1%}, "
        f"{100 * curve.gap:.1f} points below"
    )
    if made < FEWEST_EVALUATIONS:
        many = f"Too few evaluations to judge by: {made} of at least {FEWEST_EVALUATIONS}."
        return "insufficient", "evaluate", many
    if p_value is None:
        return (
            "insufficient",
            "evaluate",
            f"{seen}; how noisy that is cannot be told. Log the number of tasks and samples_per_task.",
        )
    odds = f"a policy that never changes shows as large a gap {_chance(p_value)}"
    if p_value <= SIGNIFICANCE and curve.gap > COLLAPSE_GAP:
        back = f"Go back to step {curve.peak_step} with a smaller learning rate."
        return "collapsed", "roll_back", f"{seen}; {odds}: the fall is real, and it is a collapse. {back}"
    if p_value <= SIGNIFICANCE and curve.gap > MARGIN:
        back = f"Keep the checkpoint of step {curve.peak_step}, and consider going back to it."
        return "at_risk", "roll_back", f"{seen}; {odds}: the fall is real. {back}"
    if curve.gap > COLLAPSE_GAP:
        more = "Evaluate more tasks, or more samples of each, before trusting it."
        return "insufficient", "evaluate", f"{seen}, but {odds}: noise alone explains it. {more}"
    return "healthy", "continue", f"{seen}; {odds}." if curve.gap > 0 else f"{seen.split(' and ')[0]}, its last value."


def _chance(p_value: float) -> str:
    return "less than once in 1,000 campaigns" if p_value < 0.001 else f"in {p_value:.1%} of campaigns"


def _broken(campaign: Campaign) -> str | None:
    """A sentence if the last record of a campaign, where its policy is in hand, holds a number that is not finite."""
    last = campaign.records[-1]
    if campaign.undone:
        return None
    for name, value in last.signals.items():
        if not math.isfinite(value) or (name == "finite" and value == 0):
            return f"{name} is not finite at step {last.step}, the last one: the weights may be broken."
    return None


def _with_noise(curve: Trajectory) -> Trajectory | None:
    """``curve`` with standard errors: its own, or estimated from its zigzag where nothing is known.

    The estimate is the median absolute second difference, which one real jump does not move; never below 0.01.
    """
    if np.isfinite(curve.standard_errors_E()).all():
        return curve
    if len(curve.steps) < FEWEST_FOR_NOISE:
        return None
    zigzag = np.abs(np.diff(curve.pass1_E, n=2))
    se = max(0.01, float(np.median(zigzag)) / 0.6745 / math.sqrt(6))
    return Trajectory.from_rates(curve.steps, curve.pass1_E.tolist(), se=[se] * len(curve.steps))
