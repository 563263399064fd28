"""What a campaign's evaluations say so far: which policy is best, whether it seems to fall, what to draw next.

Functions on a ``CampaignState``; ``CollapseGuard`` calls them and decides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from sr_monitor.analysis.counts import Counts, Fall, fall
from sr_monitor.analysis.margin import margin_at
from sr_monitor.guard.decision import LAST_ITERATE
from sr_monitor.guard.plan import Plan
from sr_monitor.guard.state import CampaignState

# One-sided 5%: an evaluation within this is not suspicious. It costs evaluations, not false alarms.
SUSPICION_Z = 1.645
# Weight of the past in the estimate of how much pass@1 moves between evaluations.
DRIFT_MEMORY = 0.8
# A candidate this many standard errors below the best is not worth fresh samples at the end of a campaign.
RUN_OFF_Z = 2.0
# So many standard errors must a policy lie above the campaign's start to take its place, where the start is a floor.
EARNED_Z = 0.5
# So many must the last iterate lie above the best of the means: where iterates scatter, a slight lead of one is luck.
LEAD_Z = 1.0
# The training reward slumps where the mean of its last two steps lies this many standard errors below the best before.
SLUMP_Z = 1.0
SLUMP_WINDOW = 2


@dataclass(frozen=True)
class Aim:
    """What the guard is set to; names as in ``CollapseGuard``, and the plan of the campaign."""

    plan: Plan
    margin: float
    floor: bool
    every: int
    lr_factor: float
    last_iterate: bool


def take_evaluation(c: CampaignState, step: int, counts: Counts, aim: Aim) -> None:
    """The first samples of a new step: score the step before it, and say what is wanted afresh."""
    c.counts[step] = counts
    rate, variance = counts.pass1_on(aim.plan.probe), counts.variance_on(aim.plan.probe)
    if not c.scores:
        c.start = step
        c.scores[step] = rate
    else:
        c.evaluations += 1
        _score_previous(c, rate, variance, aim)
        _suspect(c, rate, counts, aim)
    c.rates[step] = (rate, variance)
    c.rates = dict(list(c.rates.items())[-2:])
    c.evaluated = step
    missing = aim.plan.probe_samples - int(counts.samples_M.max())
    if step == c.start and missing > 0 and c.asked:
        c.wanted, c.wanted_samples, c.completing = (step,), missing, True
        return
    _want_fresh(c, step, aim)


def complete_first(c: CampaignState, step: int, counts: Counts, aim: Aim) -> None:
    """The rest of the first evaluation, which was made before the number of tasks was known."""
    c.completing = False
    c.counts[step] = c.counts[step] + counts
    c.scores[step] = c.counts[step].pass1_on(aim.plan.probe)
    c.rates[step] = (c.scores[step], c.counts[step].variance_on(aim.plan.probe))


def watch_reward(c: CampaignState, reward: float) -> None:
    """Take in the training reward of one more step, which can only bring the next evaluation forward.

    It is of other tasks every time, so its noise is estimated from its own changes between steps, on any scale. A trend
    adds to them, which makes the answer slower.
    """
    if c.rewards:
        squares, moves = c.reward_moves
        c.reward_moves = (squares + (reward - c.rewards[-1]) ** 2, moves + 1)
    c.rewards = [*c.rewards, reward][-2 * SLUMP_WINDOW :]
    if len(c.rewards) < 2 * SLUMP_WINDOW:
        return
    before, now = (sum(part) / SLUMP_WINDOW for part in (c.rewards[:SLUMP_WINDOW], c.rewards[SLUMP_WINDOW:]))
    c.reward_peak = before if c.reward_peak is None else max(c.reward_peak, before)
    squares, moves = c.reward_moves
    # a change has twice the variance of one reward, the difference of two means of two has it once
    se = math.sqrt(squares / moves / SLUMP_WINDOW)
    c.slump = c.reward_peak - now > SLUMP_Z * se


def _suspect(c: CampaignState, rate: float, counts: Counts, aim: Aim) -> None:
    """Keep a suspicion that this evaluation (pass@1 ``rate``) does not contradict, else test whether it raises one.

    What is seen while a suspicion lasts had no part in raising it, so it is evidence.
    """
    best = c.best()
    # fresh samples of the reference stay fresh for later tests against it
    c.fresh = {best: c.fresh[best]} if best in c.fresh else {}
    if c.suspected == best and c.fresh:
        c.since.append(counts)
        since = fall(c.fresh[best], lately(c, aim.plan))
        if since.z(margin_at(since.reference, aim.margin)) > 0:
            return
    seen = Fall(c.scores[best] - rate, fall(c.counts[best], counts).se, c.scores[best])
    c.suspected = best if seen.z(margin_at(seen.reference, aim.margin)) > SUSPICION_Z else None
    c.since = []


def lately(c: CampaignState, plan: Plan) -> Counts:
    """The evidence since the suspicion: the last evaluations that together have the samples of a closer one."""
    enough = plan.closer_samples * (c.tasks or 1)
    pooled = c.since[-1]
    for counts in c.since[-2::-1]:
        if pooled.samples_M.sum() >= enough:
            break
        pooled = pooled + counts
    return pooled


def _score_previous(c: CampaignState, rate: float, variance: float, aim: Aim) -> None:
    """Smooth the evaluation before this one (pass@1 ``rate``, sampling ``variance``) by both its neighbours.

    A local-level model: pass@1 moves by ``drift`` (variance per evaluation, estimated from the evaluations), so a
    neighbour measures it with variance drift + noise. Precise evaluations of a policy that moves stay as they are,
    noisy ones of a policy that hardly moves are averaged: one lucky evaluation makes no peak.
    """
    *before, (previous, (value, noise)) = c.rates.items()
    moved = max(0.0, (rate - value) ** 2 - noise - variance)
    c.drift = moved if c.drift is None else DRIFT_MEMORY * c.drift + (1 - DRIFT_MEMORY) * moved
    if previous not in c.scores:
        _score(c, previous, (value, noise), [(rate, variance), *(seen for _, seen in before)], aim)


def score_last(c: CampaignState, aim: Aim) -> None:
    """At the end, where no fresh samples can be had: smooth the last evaluation by its one neighbour."""
    if len(c.rates) > 1 and c.evaluated not in c.scores:
        (_, before), (step, last) = c.rates.items()
        _score(c, step, last, [before], aim)


def _score(
    c: CampaignState, step: int, own: tuple[float, float], neighbours: list[tuple[float, float]], aim: Aim
) -> None:
    """Score an evaluation (pass@1, sampling variance) by those beside it; the best so far is kept."""
    (value, _), drift = own, c.drift or 0.0
    seen = [own, *((rate, variance + drift) for rate, variance in neighbours)]
    # as a change of its own value, so that equal evaluations score exactly equally
    score = value + sum((r - value) / v for r, v in seen) / sum(1 / v for _, v in seen)
    if score >= c.scores[c.best()]:
        floor = {c.start: c.scores[c.start]} if aim.floor else {}
        c.scores = {**floor, step: score}


def _want_fresh(c: CampaignState, step: int, aim: Aim) -> None:
    """Fresh samples of both sides of a suspicion; at the last step, of every step that may be the best."""
    plan = aim.plan
    c.wanted = (c.suspected, step) if c.suspected is not None and not c.since else ()
    if step == c.steps and c.suspected is None:
        best = max(c.counts, key=lambda s: (c.counts[s].pass1_on(plan.probe), s))
        close = [s for s in sorted(c.counts) if fall(c.counts[best], c.counts[s]).z() < RUN_OFF_Z]
        candidates = {*close, step, LAST_ITERATE if aim.last_iterate else c.best()} | (
            {c.start} if aim.floor else set()
        )
        c.wanted = tuple(sorted(candidates)) if candidates != {step} else ()
    c.wanted = tuple(wanted for wanted in c.wanted if wanted not in c.fresh)
    if c.wanted:
        ahead = 0 if c.steps is None else c.steps - step
        c.wanted_samples = plan.affordable(c.spent, -(-ahead // aim.every), len(c.wanted))
        c.wanted = c.wanted if c.wanted_samples else ()


def run_off(c: CampaignState, step: int, aim: Aim) -> None:
    """At the end the candidates are ranked on all their samples, and the start, if it is a floor, with them. The last
    iterate, where there is one beside the means, is kept if it leads them clearly.

    Where the last policy turns out below the one that is kept, be it by less than raises an alarm, or where nothing
    has earned the start's place and the last policy seems no better, the rate was too high to get on from there.
    """
    floor = {c.start: c.scores[c.start]} if aim.floor else {}
    first = c.counts[c.start] if aim.floor and c.start in c.fresh else None
    means = [s for s in c.fresh if s != LAST_ITERATE]
    earned = [s for s in means if first is None or s == c.start or fall(first, c.counts[s]).z() < -EARNED_Z]
    c.scores = floor | {step: c.counts[step].pass1 for step in earned}
    kept = c.start if earned == [c.start] else c.best()
    if LAST_ITERATE in c.fresh and fall(c.counts[kept], c.counts[LAST_ITERATE]).z() < -LEAD_Z:
        c.scores = floor | {LAST_ITERATE: c.counts[LAST_ITERATE].pass1}
        return
    c.scores = {s: score for s, score in c.scores.items() if s in (c.start, kept)}
    best, last = c.fresh.get(c.best()), lately(c, aim.plan) if c.since else c.fresh.get(step)
    fell = best is not None and last is not None and c.best() != step and fall(best, last).z() > SUSPICION_Z
    ends = [s for s in (step, LAST_ITERATE) if s in c.fresh]
    gained = first is not None and any(fall(first, c.counts[s]).drop < 0 for s in ends)
    if fell or (aim.floor and kept == c.start and not gained):
        c.lr_scale *= aim.lr_factor
