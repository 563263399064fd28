"""The planner a chain of campaigns asks: plan the next campaign, record what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from sr_care.advice import alike, grounds
from sr_care.belief.information import Information
from sr_care.belief.replay import Belief, BeliefConfig, believe
from sr_care.belief.revision import BeliefRevision, RevisionConfig
from sr_care.entry import CAPABILITIES, Boundary, CapabilityDelta, Context, Entry, Strategy, check_capability
from sr_care.errors import EntryError, check_mapping, check_number, check_text
from sr_care.gate import Action, Decision, GateConfig, TransferGate
from sr_care.lineage import FIRST, Policy, advantage, best, lineage
from sr_care.memory.store import CapabilityMemory
from sr_care.outcome import covariance, deltas
from sr_care.paper_gate import PaperGate

MERIT = MappingProxyType({"pass1": 1.0, "pass16": 0.5})
VERSIONS = ("v1", "v2", "v3", "memory_only", "gate_only", "no_revision")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to run the next campaign. ``steps`` 0 holds the policy; ``start_from`` is "kept" (the policy
    that the last campaign kept) or the number of an earlier campaign whose kept policy to start from (-1: the
    policy the chain began with)."""

    action: Action
    steps: int
    lr: float
    penalty: float | None
    start_from: Literal["kept"] | int = "kept"
    reason: str


@dataclass(frozen=True, kw_only=True)
class PlannerConfig:
    """``paper_gate``: the deployed gate of v1 and v2. ``lr_factor``: v1 multiplies the learning rate by it at
    every detection (the paper halves). ``gate``, ``revision``, ``belief``: the mechanism of v3.
    ``default_error``: standard error of a delta whose error was not reported; two evaluations of 30 tasks
    with 16 samples each differ by about this much by chance. ``max_holds``: after so many held campaigns in a
    row a rejected strategy gets a pilot, because holding teaches nothing and the danger may be over.
    ``return_z``: the best earlier policy is restored when its merit was higher by more than so many standard
    errors (1.645: once in twenty by chance); None never goes back, for a trainer that keeps no policies. ``merit``:
    what makes a policy worth going on from, as weights of capabilities; beside pass@1 half of pass@16 counts, because
    what no sample gets right can hardly be learnt, and pass@1 alone does not notice when it is lost.
    """

    paper_gate: PaperGate = field(default_factory=PaperGate)
    lr_factor: float = 0.5
    gate: GateConfig = field(default_factory=GateConfig)
    revision: RevisionConfig = field(default_factory=RevisionConfig)
    belief: BeliefConfig = field(default_factory=BeliefConfig)
    default_error: float = 0.05
    max_holds: int = 2
    return_z: float | None = 1.645
    merit: Mapping[str, float] = field(default_factory=lambda: dict(MERIT))

    def __post_init__(self) -> None:
        check_number("planner.lr_factor", self.lr_factor, 0, 1, above=True)
        check_number("planner.default_error", self.default_error, 0, above=True)
        check_number("planner.max_holds", self.max_holds, 0, whole=True)
        check_number("planner.return_z", self.return_z, 0, optional=True)
        for name, weight in self.merit.items():
            check_capability(name)
            check_number(f"planner.merit.{name}", weight, 0)


class CarePlanner:
    """Advice for campaign after campaign of one run, from a memory that may be shared with other runs.

    ``version``: ``v1`` and ``v2`` are the paper's deployed planners (learning rate halved per detection;
    budget 10 or 20 by the ratio gate); ``v3`` is the full mechanism: belief from all of memory, transfer
    gate, belief revision. Ablations of v3: ``memory_only`` takes the change with the largest expected gain
    and never asks for the risk; ``gate_only`` believes the last campaign alone; ``no_revision`` never doubts
    its belief.

    A plan depends on the context given, on this run's campaigns before the one planned, and (v3) on what
    other runs had written when this run first asked: on nothing else, so that a killed and resumed chain
    decides the same. ``record`` twice is ``record`` once. Campaigns count from 0 without gaps: one of which nothing was
    recorded is taken to have been held. ``seed`` is remembered as provenance.
    """

    def __init__(
        self,
        memory: CapabilityMemory | str | Path,
        *,
        version: str = "v2",
        run: str,
        seed: int = 0,
        config: PlannerConfig | None = None,
    ) -> None:
        if version not in VERSIONS:
            raise EntryError(f"the planner's version must be one of {', '.join(VERSIONS)}, got {version!r}")
        self.version = version
        self.run = check_text("the planner's run", run)
        self.seed = check_number("the planner's seed", seed, whole=True)
        self.config = config or PlannerConfig()
        self.memory = memory if isinstance(memory, CapabilityMemory) else CapabilityMemory(memory)
        self.gate = TransferGate(self.config.gate)
        revises = version == "v3"
        self.revision = BeliefRevision(self.config.revision) if revises else None

    def plan(self, campaign: int, context: Mapping[str, Any]) -> Plan:
        """The plan of ``campaign``. ``context["strategy"]`` is what would be done without advice (algorithm,
        lr, steps, …), ``context["state"]`` what is known before. EntryError when the strategy is
        incomplete or a value is out of its range."""
        proposal, state = self._asked(campaign, context)
        past = self._past(campaign)
        if self.version == "v1":
            return self._halve(proposal, past)
        if self.version == "v2":
            return self._budget(proposal, past)
        start, known = self._start(state, past)
        decision = self._decide(proposal, known, past)
        plan = Plan(
            action=decision.action,
            steps=decision.strategy.steps,
            lr=decision.strategy.lr,
            penalty=decision.strategy.penalty,
            start_from=start,
            reason=decision.reason,
        )
        held = _held(campaign, past)
        if plan.action == "reject" and held >= self.config.max_holds:
            steps = min(self.config.gate.pilot_steps, proposal.steps)
            reason = f"held {held} times in a row; a short budget tests whether the danger is over ({plan.reason})"
            plan = replace(plan, action="pilot", steps=steps, reason=reason)
        return plan

    def retained(self, campaign: int) -> frozenset[int]:
        """The campaigns before ``campaign`` whose kept policies a later plan may start from, at most one:
        the best so far (-1 is the policy the chain began with)."""
        if not self._returns:
            return frozenset()
        return frozenset({best(self._lineage(self._past(campaign)))})

    @property
    def _returns(self) -> bool:
        return self.config.return_z is not None and self.version not in ("v1", "v2", "gate_only")

    def decide(self, campaign: int, context: Mapping[str, Any]) -> Decision:
        """The gate's full answer behind a v3 plan: numbers and the entries it rests on."""
        proposal, state = self._asked(campaign, context)
        past = self._past(campaign)
        _, known = self._start(state, past)
        decision = self._decide(proposal, known, past)
        pool = past[-1:] if self.version == "gate_only" else list(past)
        if self.version != "gate_only":
            pool += alike(self.memory, proposal, known, upto=self.memory.pin(self.run))
        posterior = self._believe(past).posterior
        return replace(decision, entries=grounds(posterior, decision.strategy, known, pool))

    def belief(self, campaign: int) -> Belief:
        """What this run believes before ``campaign``."""
        return self._believe(self._past(campaign))

    def record(self, campaign: int, outcome: Mapping[str, Any]) -> None:
        """Remember what came of ``campaign``: its ``strategy``, ``state`` and ``start_from``, the curve
        (``start``, ``peak``, ``peak_step``, ``end``, ``kept``), capabilities ``before`` and ``after`` by name as shares
        in [0, 1], and how well the changes are known: their ``covariance`` by pairs of names, or standard errors
        ``se``.

        A second record of the same outcome does nothing; EntryError when a different one is already remembered
        under this run and campaign, or the outcome is malformed."""
        check_number("campaign", campaign, 0, whole=True)
        outcome = check_mapping("an outcome", outcome)
        values = deltas(outcome)
        strategy = Strategy.from_mapping(outcome.get("strategy") or {})
        if not values:
            if strategy.steps == 0:
                return
            raise EntryError(
                f"the outcome of {strategy.steps} steps needs at least one of {', '.join(CAPABILITIES)} both in "
                f"'before' and in 'after', got {outcome.get('before')!r} and {outcome.get('after')!r}"
            )
        entry = self._entry(campaign, outcome, strategy, values)
        known = self.memory.find(self.run, campaign) or self._append(entry)
        if known is not None and any(
            getattr(known, n) != getattr(entry, n) for n in ("strategy", "delta", "boundary", "start_from")
        ):
            raise EntryError(
                f"run {self.run!r} campaign {campaign} is remembered with another outcome; "
                "use another run name, or forget that entry"
            )

    def _asked(self, campaign: int, context: Mapping[str, Any]) -> tuple[Strategy, Context]:
        """What would be done in ``campaign`` without advice, and what is known before."""
        check_number("campaign", campaign, 0, whole=True)
        context = check_mapping("a planner's context", context)
        return Strategy.from_mapping(context.get("strategy") or {}), Context.from_mapping(context.get("state") or {})

    def _append(self, entry: Entry) -> Entry | None:
        """Write the entry; return the one that another process has written of the same campaign meanwhile."""
        if self.revision is not None and entry.strategy.steps > 0:
            # an outlier has the same weight for other runs as for this one
            weight = self._believe([*self._past(entry.campaign), entry]).revision.weights[-1]
            entry = replace(entry, confidence=weight)
        try:
            self.memory.append(entry)
        except EntryError:
            if (known := self.memory.find(entry.run, entry.campaign)) is None:
                raise
            return known
        return None

    # --- v1, v2

    def _halve(self, proposal: Strategy, past: Sequence[Entry]) -> Plan:
        """v1: the learning rate is halved at every detection so far."""
        detections = sum(self.config.paper_gate.fell(entry.boundary) for entry in past)
        lr = proposal.lr * self.config.lr_factor**detections
        reason = (
            f"{detections} of {len(past)} campaigns ended below {self.config.paper_gate.limit:.0%} of their peak; "
            f"learning rate {lr:g}"
        )
        return Plan(
            action="adapt" if detections else "reuse",
            steps=min(self.config.paper_gate.full_steps, proposal.steps),
            lr=lr,
            penalty=proposal.penalty,
            reason=reason,
        )

    def _budget(self, proposal: Strategy, past: Sequence[Entry]) -> Plan:
        """v2: a pilot budget after a campaign that fell, the full one otherwise."""
        gate, last = self.config.paper_gate, past[-1].boundary if past else None
        steps = min(gate.budget(last), proposal.steps)
        ratio = last.ratio if last is not None else None
        if ratio is None:
            reason = "no earlier campaign of this run to judge by: the full budget"
        else:
            side = "below" if gate.fell(last) else "not below"
            reason = f"the last campaign ended at {ratio:.0%} of its peak, {side} {gate.limit:.0%}: {steps} steps"
        action: Action = "pilot" if gate.fell(last) else "reuse"
        return Plan(action=action, steps=steps, lr=proposal.lr, penalty=proposal.penalty, reason=reason)

    # --- v3 and its ablations

    def _past(self, campaign: int) -> list[Entry]:
        """This run's entries before ``campaign``, oldest first."""
        past = [entry for entry in self.memory.entries(run=self.run) if entry.campaign < campaign]
        return sorted(past, key=lambda entry: entry.campaign)

    def _believe(self, past: Sequence[Entry]) -> Belief:
        model = self.memory.model
        if self.version == "gate_only":
            return believe(model, Information.none(), past[-1:], config=self.config.belief)
        history = self.memory.recall(upto=self.memory.pin(self.run)).information
        return believe(model, history, past, config=self.config.belief, revision=self.revision)

    def _decide(self, proposal: Strategy, context: Context, past: Sequence[Entry]) -> Decision:
        belief = self._believe(past)
        if self.version == "memory_only":
            return self.gate.greedy(proposal, context, belief.posterior)
        return self.gate.decide(proposal, context, belief.posterior, belief.revision.caution)

    def _lineage(self, past: Sequence[Entry]) -> dict[int, Policy]:
        return lineage(past, self.config.merit, self.config.default_error)

    def _start(self, context: Context, past: Sequence[Entry]) -> tuple[Literal["kept"] | int, Context]:
        """Where to start from, and what is known there."""
        policies = self._lineage(past)
        place, here = best(policies), next(reversed(policies))
        gain, error = advantage(policies[place], policies[here])
        if not self._returns or gain <= (self.config.return_z or 0) * error:
            return "kept", context
        known = {entry.campaign: entry.boundary.kept for entry in past}
        known[FIRST] = past[0].boundary.start
        return place, Context(
            family=context.family, model_parameters=context.model_parameters, pass1=known[place]
        )  # the rest was measured of another policy

    def _entry(
        self, campaign: int, outcome: Mapping[str, Any], strategy: Strategy, values: Mapping[str, float]
    ) -> Entry:
        start = outcome.get("start_from")
        return Entry(
            strategy=strategy,
            context=Context.from_mapping(outcome.get("state") or {}),
            delta=CapabilityDelta(
                values=dict(values), covariance=covariance(outcome, list(values), self.config.default_error)
            ),
            boundary=Boundary(**{n: outcome.get(n) for n in ("start", "peak", "peak_step", "end", "kept")}),
            run=self.run,
            campaign=campaign,
            seed=self.seed,
            start_from=None if start == "kept" else start,
        )


def _held(campaign: int, past: Sequence[Entry]) -> int:
    """How many campaigns in a row before ``campaign`` trained nothing."""
    trained = [entry.campaign for entry in past if entry.strategy.steps > 0]
    return campaign - 1 - (trained[-1] if trained else -1)
