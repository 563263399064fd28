"""The planner a chain of campaigns asks: plan the next campaign, record what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sr_care.entry import Boundary, CapabilityDelta, Context, Entry, Strategy, check_capability
from sr_care.errors import EntryError, check_number
from sr_care.memory import CapabilityMemory
from sr_care.ratio import RatioGate

Action = Literal["reuse", "adapt", "pilot", "reject"]
VERSIONS = ("v1", "v2")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to run the next campaign. ``steps`` 0 holds the policy; ``start_from`` is "kept" (the policy handed
    on by the last campaign) or the number of an earlier campaign whose kept policy to start from."""

    action: Action
    steps: int
    lr: float
    penalty: float | None
    start_from: Literal["kept"] | int = "kept"
    reason: str


@dataclass(frozen=True, kw_only=True)
class PlannerConfig:
    """``ratio``: the deployed gate of v1 and v2. ``lr_factor``: v1 multiplies the learning rate by it at
    every detection (the paper halves). ``default_error``: standard error of a delta whose error was not
    reported; two evaluations of 30 tasks with 16 samples each differ by about this much by chance."""

    ratio: RatioGate = field(default_factory=RatioGate)
    lr_factor: float = 0.5
    default_error: float = 0.05

    def __post_init__(self) -> None:
        check_number("planner.lr_factor", self.lr_factor, 0, 1, above=True)
        check_number("planner.default_error", self.default_error, 0, above=True)


class CarePlanner:
    """Advice for campaign after campaign of one run, from a memory that may be shared with other runs.

    A plan depends on the context given, on this run's campaigns before the one planned, and on the memory: on
    nothing else, so that a killed and resumed chain decides the same. ``record`` twice is ``record`` once.
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
        self.memory = memory if isinstance(memory, CapabilityMemory) else CapabilityMemory(memory)
        self.version = version
        self.run = run
        self.seed = seed
        self.config = config or PlannerConfig()

    def plan(self, campaign: int, context: Mapping[str, Any]) -> Plan:
        """The plan of ``campaign``. ``context["strategy"]`` is what would be done without advice (algorithm,
        lr, steps, …), ``context["state"]`` what is known before. EntryError when the strategy is
        incomplete."""
        proposal = Strategy.from_mapping(context.get("strategy") or {})
        past = [entry for entry in self.memory.entries(run=self.run) if entry.campaign < campaign]
        past.sort(key=lambda entry: entry.campaign)
        return self._halve(proposal, past) if self.version == "v1" else self._budget(proposal, past)

    def _halve(self, proposal: Strategy, past: list[Entry]) -> Plan:
        """v1: the learning rate is halved at every detection so far."""
        detections = sum(self.config.ratio.fell(entry.boundary) for entry in past)
        lr = proposal.lr * self.config.lr_factor**detections
        steps = min(self.config.ratio.full_steps, proposal.steps)
        reason = (
            f"{detections} of {len(past)} campaigns ended below {self.config.ratio.limit:.0%} of their peak; "
            f"learning rate {lr:g}"
        )
        action: Action = "adapt" if detections else "reuse"
        return Plan(action=action, steps=steps, lr=lr, penalty=proposal.penalty, reason=reason)

    def _budget(self, proposal: Strategy, past: list[Entry]) -> Plan:
        """v2: a pilot budget after a campaign that fell, the full one otherwise."""
        gate, last = self.config.ratio, past[-1].boundary if past else None
        steps = min(gate.budget(last), proposal.steps)
        ratio = last.ratio if last is not None else None
        if ratio is None:
            reason = "no earlier campaign of this run to judge by: the full budget"
        else:
            side = "below" if gate.fell(last) else "not below"
            reason = (
                f"the last campaign ended at {ratio:.0%} of its peak, {side} {gate.limit:.0%}: {steps} steps"
            )
        action: Action = "pilot" if gate.fell(last) else "reuse"
        return Plan(action=action, steps=steps, lr=proposal.lr, penalty=proposal.penalty, reason=reason)

    def record(self, campaign: int, outcome: Mapping[str, Any]) -> None:
        """Remember what came of ``campaign``. A second record of the same outcome does nothing; EntryError
        when a different one is already remembered under this run and campaign, or the outcome is
        malformed."""
        entry = self._entry(campaign, outcome)
        known = self.memory.find(self.run, campaign)
        if known is None:
            self.memory.append(entry)
        elif (known.strategy, known.delta, known.boundary) != (entry.strategy, entry.delta, entry.boundary):
            raise EntryError(
                f"run {self.run!r} campaign {campaign} is remembered with another outcome; use another run name, "
                "or forget that entry"
            )

    def _entry(self, campaign: int, outcome: Mapping[str, Any]) -> Entry:
        before, after, errors = (outcome.get(name) or {} for name in ("before", "after", "se"))
        both = [name for name in before if before[name] is not None and after.get(name) is not None]
        values = {name: after[name] - before[name] for name in sorted(both, key=check_capability)}
        se = {n: errors[n] if errors.get(n) is not None else self.config.default_error for n in values}
        return Entry(
            strategy=Strategy.from_mapping(outcome.get("strategy") or {}),
            context=Context.from_mapping(outcome.get("state") or {}),
            delta=CapabilityDelta.from_errors(values, se),
            boundary=Boundary(**{n: outcome.get(n) for n in ("start", "peak", "peak_step", "end", "kept")}),
            run=self.run,
            campaign=campaign,
            seed=self.seed,
        )
