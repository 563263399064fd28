"""A chain: campaigns one after another, each from a policy that one before kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from sr_core.campaign import Link, Row, run_campaign
from sr_core.distributed.planning import shared_planner
from sr_core.errors import ConfigError, NonFiniteError
from sr_core.evaluation.capabilities import CapabilityChange
from sr_core.loop.summary import FIRST, Audited, CampaignPlan, CampaignSummary, ChainSummary, Ood
from sr_core.protocols import Guard, Planner
from sr_core.runs.checkpoint import Checkpoint
from sr_core.runs.store import RunStore
from sr_core.tasks import CampaignTasks
from sr_core.trainer import Trainer

__all__ = ["run_chain"]

LEVELS = {"pass1": "pass1", "passk": "pass16", "unique_share": "diversity"}  # a planner's name -> the capability


def run_chain(
    trainer: Trainer,
    draw: Callable[[int], CampaignTasks],
    guard: Guard | None = None,
    planner: Planner | None = None,
    *,
    store: RunStore | None = None,
    on_row: Callable[[Row], None] | None = None,
) -> ChainSummary:
    """Run ``campaign.count`` campaigns; ``draw(k)`` gives the tasks of campaign k.

    With a ``store`` that already holds a checkpoint the chain continues from there, bit for bit. The trainer is left
    with the policy that is carried forward: the one that the last campaign kept, or the earlier one that the planner
    would start a next campaign from. On several processes only the first one need give the planner.
    """
    chain = _Chain(trainer, guard, shared_planner(planner, trainer.ranks))
    checkpoint = store.load() if store is not None else None
    if checkpoint is None:
        chain.begin()
    else:
        chain.restore(checkpoint)
    for campaign in range(len(chain.summaries), trainer.config.campaign.count):
        tasks = draw(campaign)
        if checkpoint is None:
            chain.start(campaign, tasks)
        steps, link = chain.plan.steps, chain.link(campaign, checkpoint)
        summary = run_campaign(
            trainer, tasks, guard, campaign=campaign, steps=steps, store=store, on_row=on_row, link=link
        )
        checkpoint = None
        chain.record(summary, tasks)
    return chain.finish(tasks)


class _Chain:
    """A chain in progress: its summaries, the policies it may return to, and the campaign's plan."""

    def __init__(self, trainer: Trainer, guard: Guard | None, planner: Planner | None) -> None:
        self.trainer, self.guard, self.planner = trainer, guard, planner
        self.summaries: list[CampaignSummary] = []
        self.earlier: dict[int, Mapping[str, Tensor]] = {}  # policies that campaigns kept, by campaign
        self.plan: CampaignPlan
        self.ood: Ood | None = None  # of the policy that the campaign starts from

    def begin(self) -> None:
        """Start from the policy in the trainer."""
        self._retain(FIRST)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue in the middle of a campaign."""
        notes = checkpoint.state["notes"]
        self.summaries = [CampaignSummary.from_json(values) for values in notes["summaries"]]
        self.plan = CampaignPlan.from_json(notes["plan"])
        self.ood = None if notes["ood"] is None else Ood.from_json(notes["ood"])
        self.earlier = dict(self.trainer.local_checkpoint(checkpoint).earlier)

    def start(self, campaign: int, tasks: CampaignTasks) -> None:
        """Plan the campaign, and put the policy that it starts from into the trainer."""
        plan = self._advice(campaign, tasks)
        self.plan = plan if self.guard is None else replace(plan, lr=plan.lr * self.guard.lr_scale)
        self._go_to(plan)
        self.trainer.begin_campaign(lr=self.plan.lr, penalty=plan.penalty)
        if self.planner is None:
            return
        source = plan.source(campaign)
        # the tasks are the same in all campaigns, so the measurement at the end of the one that kept it serves
        self.ood = self._measure_ood(tasks, 0, "ood-first") if source == FIRST else self.summaries[source].ood

    def link(self, campaign: int, checkpoint: Checkpoint | None) -> Link:
        """What the campaign gets from the chain, and every checkpoint carries for it."""
        notes = {
            "summaries": [summary.to_json() for summary in self.summaries],
            "plan": self.plan.to_json(),
            "ood": None if self.ood is None else self.ood.to_json(),
        }
        start_audit = self._audit_of(self.plan.source(campaign))
        return Link(checkpoint=checkpoint, notes=notes, earlier=self.earlier, start_audit=start_audit)

    def record(self, summary: CampaignSummary, tasks: CampaignTasks) -> None:
        """Record the campaign's outcome and report it to the planner."""
        campaign = summary.campaign
        if self.planner is not None:
            kept = self._measure_ood(tasks, campaign, "ood-kept")
            drawn = [kept, self.ood if self.plan.source(campaign) == FIRST else None]
            samples = sum(one.drawn for one in drawn if one is not None)
            summary = summary.planned(self.plan, kept, samples)
            self.planner.record(campaign, self._outcome(summary))
        self.summaries.append(summary)
        self._retain(campaign)

    def finish(self, tasks: CampaignTasks) -> ChainSummary:
        """Leave the trainer with the policy that is carried forward."""
        carried = None
        if self.planner is not None:
            plan = self._advice(len(self.summaries), tasks)
            self._go_to(plan)
            carried = None if plan.start_from == "kept" else int(plan.start_from)
        return ChainSummary.of(self.summaries, carried)

    def _retain(self, number: int) -> None:
        """Of the policies kept so far, that of ``number`` in the trainer included, those the planner wants."""
        wanted = self.planner.retained(number + 1) if self.planner is not None else frozenset()
        self.earlier = {k: weights for k, weights in self.earlier.items() if k in wanted}
        if number in wanted:
            self.earlier[number] = self.trainer.weights()

    def _go_to(self, plan: CampaignPlan) -> None:
        if plan.start_from == "kept":
            return
        if plan.start_from not in self.earlier:
            raise ConfigError(
                f"a planner may start from a policy it retains ({sorted(self.earlier)}) or from 'kept', got "
                f"{plan.start_from!r}: let its retained() name it"
            )
        self.trainer.load_weights(self.earlier[plan.start_from])

    def _advice(self, campaign: int, tasks: CampaignTasks) -> CampaignPlan:
        """The planner's advice; without a planner, the configuration."""
        config = self.trainer.config
        steps, lr = config.campaign.steps, config.optim.lr
        if self.planner is None:
            return CampaignPlan(
                action="reuse", steps=steps, lr=lr, penalty=None, start_from="kept", reason="no planner"
            )
        context = {"strategy": self._strategy(steps, lr), "state": self._state(campaign - 1, tasks)}
        advice = self.planner.plan(campaign, context)
        plan = CampaignPlan(
            action=advice.action,
            steps=advice.steps,
            lr=advice.lr,
            penalty=advice.penalty,
            start_from=advice.start_from,
            reason=advice.reason,
        )
        return replace(plan, state=self._state(plan.source(campaign), tasks))

    def _strategy(self, steps: int, lr: float) -> dict[str, Any]:
        config, penalty = self.trainer.config, self.trainer.penalty
        return {
            "algorithm": config.algorithm.name,
            "lr": lr,
            "steps": steps,
            "group_size": config.sampling.group_size,
            "prompts": config.sampling.prompts,
            "penalty": penalty.coefficient if penalty.pulls else None,
        }

    def _state(self, number: int, tasks: CampaignTasks) -> dict[str, Any]:
        """What is known of the policy that campaign ``number`` kept, before further training."""
        state: dict[str, Any] = {"task_family": tasks.family, "model_parameters": self.trainer.policy.size}
        if number == FIRST:
            return state
        source = self.summaries[number]
        levels = {"pass1": source.kept} if source.capabilities is None else source.capabilities.after
        return state | _levels(levels) | source.signals

    def _outcome(self, summary: CampaignSummary) -> dict[str, Any]:
        """What came of a campaign; its state is what was known before it, on its own tasks where they tell."""
        change: dict[str, Any] = {"before": {"pass1": summary.start}, "after": {"pass1": summary.kept}}
        capabilities = summary.capabilities
        if self.ood is not None and summary.ood is not None:
            ood = CapabilityChange.of(_shares(self.ood), _shares(summary.ood), ("ood",))
            if capabilities is None:
                change = {key: {**change.get(key, {}), **values} for key, values in ood.to_json().items()}
            else:
                capabilities = capabilities.joined(ood)
        if capabilities is not None:
            change = capabilities.to_json()
        return {
            "strategy": self._strategy(summary.steps, self.plan.lr),
            "state": (self.plan.state or {}) | _levels(change["before"]),
            "start": summary.start,
            "peak": summary.peak,
            "peak_step": summary.peak_step,
            "end": summary.end,
            "kept": summary.kept,
            "start_from": self.plan.start_from,
            "se": {"pass1": summary.se},
            **change,
        }

    def _audit_of(self, number: int) -> Audited | None:
        """The audit of the policy that campaign ``number`` kept, where it is known."""
        if not self.summaries:
            return None
        audit = self.summaries[max(number, 0)].audit
        return None if audit is None else audit.of("start" if number == FIRST else "kept")

    def _measure_ood(self, tasks: CampaignTasks, campaign: int, purpose: str) -> Ood | None:
        """The policy in the trainer on the out-of-distribution tasks; one with non-finite scores passes nothing."""
        if not tasks.ood:
            return None
        samples = self.trainer.config.evaluate.samples
        try:
            passes = self.trainer.evaluate(tasks.ood, samples, campaign=campaign, step=0, purpose=purpose).passes
        except NonFiniteError:
            passes = [0] * len(tasks.ood)
        return Ood(passes=passes, samples=samples, drawn=samples * len(passes))


def _levels(vector: Mapping[str, float | None]) -> dict[str, float | None]:
    """A capability vector as a planner's state names it."""
    return {name: vector.get(capability) for name, capability in LEVELS.items()}


def _shares(ood: Ood) -> Any:
    return np.array(ood.passes)[:, None] / ood.samples
