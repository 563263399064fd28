"""The transfer gate: may what worked before be done again here? Reuse, adapt, pilot or reject, with the
reason.

The four answers are the paper's; how they follow from the predictive distribution is our choice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

import numpy as np

from sr_care.belief.effects import query_rows
from sr_care.belief.numerics import normal_cdf
from sr_care.belief.posterior import Posterior
from sr_care.belief.revision import Caution
from sr_care.entry import Context, Floats, Strategy, check_capability
from sr_care.errors import check_number

Action = Literal["reuse", "adapt", "pilot", "reject"]

TOLERANCES = MappingProxyType({"pass1": 0.05, "pass16": 0.1, "hard": 0.05, "ood": 0.05, "well_formed": 0.05})


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """``protected``: the capabilities that must not fall, and by how much they may. One that no remembered
    entry measured is left out (its risk would be the prior's guess). 5 points are twice the noise of a usual
    evaluation; pass@16 falls in every sharpening, so it has more room, and diversity, which sharpening is made of,
    is not protected unless you say so. Of pass@1 no more than ``tolerance_share`` of its level may go: for a policy
    at 10%, 5 points would be half of it; but never less than ``tolerance_floor``: a change that an evaluation
    cannot detect can be neither protected against nor reversed.

    ``risk_limit``: the probability of such a fall that is accepted. A fall is measured when the campaign ends and a
    planner then goes back, so it costs a campaign, not the policy; never to train costs every campaign. One campaign in
    ten may so be lost; with 0.2 and 0.35 chains of the testbed ended lower. ``min_gain``: the least expected gain in
    pass@1 for which anything is done. ``gain_margin``: no change is made for less additional gain than this, about the
    noise of an evaluation.

    ``pilot_chance``: a pilot needs this probability of a gain, and ``pilot_risk`` at most of a fall: it may risk more
    than a campaign, because it teaches what to do with the rest. ``pilot_steps``: the paper's; at the rate proposed, or
    the nearest lower one at which the risk is borne.

    ``step_shares``, ``lr_factors``, ``penalty_factors``: what ``adapt`` may try, never more than was
    proposed; ``min_steps``: fewer are no campaign.
    """

    protected: Mapping[str, float] = field(default_factory=lambda: dict(TOLERANCES))
    tolerance_share: float = 0.25
    tolerance_floor: float = 0.025
    risk_limit: float = 0.1
    min_gain: float = 0.0
    gain_margin: float = 0.02
    pilot_chance: float = 0.2
    pilot_risk: float = 0.3
    pilot_steps: int = 10
    step_shares: tuple[float, ...] = (1.0, 0.75, 0.5, 0.25)
    lr_factors: tuple[float, ...] = (1.0, 0.5, 0.25)
    penalty_factors: tuple[float, ...] = (1.0, 2.0, 4.0)
    min_steps: int = 3

    def __post_init__(self) -> None:
        for name, tolerance in self.protected.items():
            check_capability(name)
            check_number(f"gate.protected.{name}", tolerance, 0, 1)
        for name in ("tolerance_share", "tolerance_floor", "risk_limit", "pilot_chance", "pilot_risk"):
            check_number(f"gate.{name}", getattr(self, name), 0, 1)
        for name in ("min_gain", "gain_margin"):
            check_number(f"gate.{name}", getattr(self, name), -1, 1)
        for name in ("pilot_steps", "min_steps"):
            check_number(f"gate.{name}", getattr(self, name), 1, whole=True)
        for name in ("step_shares", "lr_factors"):
            for value in getattr(self, name):
                check_number(f"gate.{name}", value, 0, 1, above=True)
        for value in self.penalty_factors:
            check_number("gate.penalty_factors", value, 1)


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What to expect of one strategy: expected ``gain`` in pass@1, the standard deviation of it, per protected
    capability ``effects`` = (mean, standard deviation, probability of a fall beyond its tolerance), and as
    ``risk`` the largest of these probabilities. Capabilities break together, because the policy does; were their
    errors taken as independent, five small doubts would add up to a refusal."""

    gain: float
    gain_sd: float
    risk: float
    effects: Mapping[str, tuple[float, float, float]]

    @property
    def chance(self) -> float:
        """The probability of any gain in pass@1."""
        return normal_cdf(self.gain / self.gain_sd) if self.gain_sd > 0 else float(self.gain > 0)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The gate's answer: what to do (``strategy``; of 0 steps to hold the policy), what to expect of it (of the last
    pilot that was refused, if ``action`` is "reject") and of the ``proposal``, the ids of the ``entries`` it rests on
    most, and the sentence that says why."""

    action: Action
    strategy: Strategy
    outlook: Outlook
    proposal: Outlook
    risk_limit: float
    entries: tuple[int, ...] = ()
    reason: str


class TransferGate:
    """Decides from a posterior. Same posterior, same question: same answer."""

    def __init__(self, config: GateConfig | None = None) -> None:
        self.config = config or GateConfig()

    def decide(
        self, proposal: Strategy, context: Context, posterior: Posterior, caution: Caution | None = None
    ) -> Decision:
        """Reuse the proposal if its risk is acceptable and no change promises clearly more; else adapt it to
        the nearest change that is; else pilot, if a gain is likely enough; else reject. Without any
        remembered pass@1 the proposal is reused: there is nothing to judge it by."""
        caution = caution or Caution()
        limit = self.config.risk_limit * caution.tightening
        campaigns, pilots = self.candidates(proposal), self._pilots(proposal)
        candidates = [*campaigns, *pilots]
        outlooks = self.outlook(candidates, context, posterior, noise=caution.noise)
        doses = posterior.model.dose(query_rows(candidates, context))

        def answer(action: Action, choice: int, reason: str) -> Decision:
            strategy = replace(proposal, steps=0) if action == "reject" else candidates[choice]
            return Decision(
                action=action,
                strategy=strategy,
                outlook=outlooks[choice],
                proposal=outlooks[0],
                risk_limit=limit,
                reason=reason,
            )

        if posterior.count[0] == 0:
            return answer("reuse", 0, "nothing alike is remembered, so the strategy stands as proposed")
        allowed = [
            i
            for i in range(len(campaigns))
            if outlooks[i].risk <= limit and outlooks[i].gain >= self.config.min_gain
            if doses[i] < caution.ceiling
        ]
        if allowed:
            best = max(outlooks[i].gain for i in allowed)
            choice = next(i for i in allowed if outlooks[i].gain >= best - self.config.gain_margin)
            action: Action = "adapt" if choice else "reuse"
            return answer(action, choice, self._explain(action, outlooks, choice, limit))
        for pilot in range(len(campaigns), len(candidates)):
            outlook = outlooks[pilot]
            hopeful = outlook.chance >= self.config.pilot_chance and outlook.risk <= self.config.pilot_risk
            if hopeful and doses[pilot] < caution.ceiling:
                return answer("pilot", pilot, self._explain("pilot", outlooks, pilot, limit))
        return answer("reject", pilot, self._explain("reject", outlooks, pilot, limit))

    def greedy(self, proposal: Strategy, context: Context, posterior: Posterior) -> Decision:
        """The change with the largest expected gain, whatever its risk: memory without a gate, for
        comparison."""
        candidates = self.candidates(proposal)
        outlooks = self.outlook(candidates, context, posterior)
        choice = max(range(len(candidates)), key=lambda i: (round(outlooks[i].gain, 9), -i))
        gain = outlooks[choice].gain
        return Decision(
            action="adapt" if choice else "reuse",
            strategy=candidates[choice],
            outlook=outlooks[choice],
            proposal=outlooks[0],
            risk_limit=1.0,
            reason=f"of {len(candidates)} strategies near the proposal this one promises most, {gain:+.1%} pass@1",
        )

    def candidates(self, proposal: Strategy) -> list[Strategy]:
        """The proposal and its changes, nearest first: distance is the sum of factors of two by which budget,
        learning rate and penalty differ; at equal distance a shorter budget comes first, as it costs
        least."""
        c = self.config
        penalties = c.penalty_factors if proposal.penalty else (1.0,)
        found: dict[Strategy, tuple[float, int]] = {proposal: (0.0, 0)}
        for share in c.step_shares:
            steps = max(round(proposal.steps * share), min(c.min_steps, proposal.steps))
            for lr in c.lr_factors:
                for penalty in penalties:
                    changed = replace(
                        proposal,
                        steps=steps,
                        lr=proposal.lr * lr,
                        penalty=proposal.penalty and proposal.penalty * penalty,
                    )
                    ratio = max(proposal.steps, 1) / max(steps, 1)
                    distance = float(np.log2(ratio) - np.log2(lr) + np.log2(penalty))
                    found.setdefault(changed, (round(distance, 9), len(found)))
        return sorted(found, key=lambda strategy: (found[strategy][0], strategy.steps, found[strategy][1]))

    def _pilots(self, proposal: Strategy) -> list[Strategy]:
        steps = min(self.config.pilot_steps, proposal.steps)
        return [
            replace(proposal, steps=steps, lr=proposal.lr * lr) for lr in sorted({1.0, *self.config.lr_factors})[::-1]
        ]

    def outlook(
        self, strategies: Sequence[Strategy], context: Context, posterior: Posterior, *, noise: float = 1.0
    ) -> list[Outlook]:
        """What to expect of each strategy, with predictive variances × ``noise``."""
        prediction = posterior.predict(strategies, context)
        tolerances = self._tolerances(context, posterior)
        spreads = np.sqrt(noise * np.diagonal(prediction.covariance, axis1=1, axis2=2))
        return [_outlook(mean, spread, tolerances) for mean, spread in zip(prediction.mean, spreads, strict=True)]

    def _tolerances(self, context: Context, posterior: Posterior) -> dict[str, float]:
        known = {n: t for n, t in self.config.protected.items() if posterior.count[check_capability(n)] > 0}
        if "pass1" in known and context.pass1 is not None:
            share = max(self.config.tolerance_share * context.pass1, self.config.tolerance_floor)
            known["pass1"] = min(known["pass1"], share)
        return known

    def _explain(self, action: Action, outlooks: list[Outlook], choice: int, limit: float) -> str:
        asked, chosen = outlooks[0], outlooks[choice]
        worst = max(chosen.effects, key=lambda name: chosen.effects[name][2], default="pass1")
        if action == "reuse":
            return (
                f"the strategy as proposed promises {asked.gain:+.1%} pass@1 and a risk of {asked.risk:.0%} "
                f"(limit {limit:.0%}) that something protected falls, most of all {worst}"
            )
        if action == "adapt":
            return (
                f"as proposed: {asked.gain:+.1%} pass@1 at a risk of {asked.risk:.0%} (limit {limit:.0%}); "
                f"the nearest change that is good enough promises {chosen.gain:+.1%} at {chosen.risk:.0%}"
            )
        if action == "pilot":
            return (
                f"nothing near the proposal keeps the risk to {limit:.0%} with a gain, but {chosen.chance:.0%} "
                f"speak for a gain at a risk of {chosen.risk:.0%}: a short budget finds out"
            )
        return (
            f"even a short budget at the lowest rate promises {chosen.gain:+.1%} pass@1 at a risk of {chosen.risk:.0%} "
            f"(limit {limit:.0%}), most of all for {worst}: the policy is held"
        )


def _outlook(mean: Floats, spread: Floats, tolerances: Mapping[str, float]) -> Outlook:
    effects = {}
    for name, fall in tolerances.items():
        place = check_capability(name)
        m, s = float(mean[place]), float(spread[place])
        effects[name] = (m, s, normal_cdf((-fall - m) / s) if s > 0 else float(m < -fall))
    risk = max((below for _, _, below in effects.values()), default=0.0)
    return Outlook(gain=float(mean[0]), gain_sd=float(spread[0]), risk=risk, effects=effects)
