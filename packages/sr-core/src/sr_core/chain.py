"""A chain: campaigns one after another, each from a policy that one before handed on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from sr_core.campaign import Row, run_campaign
from sr_core.distributed.process_group import Ranks
from sr_core.errors import ConfigError, NonFiniteError
from sr_core.evaluation.capabilities import capability_change
from sr_core.progress import Audit
from sr_core.protocols import Guard, Plan, Planner
from sr_core.runs.store import RunStore
from sr_core.tasks import CampaignTasks
from sr_core.trainer import Trainer

__all__ = ["run_chain"]

FIRST = -1  # the number of the policy that the chain began with, among those that campaigns handed on
Handed = dict[int, Mapping[str, Tensor]]


def run_chain(
    trainer: Trainer,
    draw: Callable[[int], CampaignTasks],
    guard: Guard | None = None,
    planner: Planner | None = None,
    *,
    store: RunStore | None = None,
    on_row: Callable[[Row], None] | None = None,
) -> dict[str, Any]:
    """Run ``campaign.count`` campaigns; ``draw(k)`` gives the tasks of campaign k.

    With a ``store`` that already holds a checkpoint the chain goes on from there, bit for bit. Returns the summary of
    the chain (keys as in ``summary.json``); the trainer is left with the policy that the chain hands on: the one that
    the last campaign did, or the earlier one that the planner would start a next campaign from.
    """
    planner = _shared(planner, trainer.ranks)
    checkpoint = store.load() if store is not None else None
    first = 0 if checkpoint is None else checkpoint.campaign
    summaries: list[dict[str, Any]] = [] if checkpoint is None else list(checkpoint.state["notes"]["summaries"])
    earlier: Handed = (
        dict(trainer.local_checkpoint(checkpoint).earlier)
        if checkpoint is not None
        else _hold(trainer, planner, {}, FIRST)
    )
    for campaign in range(first, trainer.config.campaign.count):
        tasks = draw(campaign)
        if checkpoint is None:
            plan = _plan(trainer, planner, tasks, campaign, summaries)
            if guard is not None:
                plan["lr"] *= guard.lr_scale
            _go_to(trainer, plan["start_from"], earlier)
            trainer.begin_campaign(lr=plan["lr"], penalty=plan["penalty"])
            ood = _ood(trainer, planner, tasks, campaign, plan, summaries)
        else:
            plan, ood = checkpoint.state["notes"]["plan"], checkpoint.state["notes"]["ood"]
        summary = run_campaign(
            trainer,
            tasks,
            guard,
            campaign=campaign,
            steps=plan["steps"],
            store=store,
            checkpoint=checkpoint,
            notes={"summaries": summaries, "plan": plan, "ood": ood},
            start_audit=_audit_of(_source(campaign, plan), summaries),
            earlier=earlier,
            on_row=on_row,
        )
        checkpoint = None
        if planner is not None:
            summary |= {"plan": plan, "ood": _measure_ood(trainer, tasks, campaign, "ood-kept")}
            measured = [summary["ood"], ood if _source(campaign, plan) == FIRST else None]
            summary["ood_samples"] = sum(one["drawn"] for one in measured if one is not None)
            planner.record(campaign, _outcome(trainer, tasks, plan, ood, summary))
        summaries = [*summaries, summary]
        earlier = _hold(trainer, planner, earlier, campaign)
    return summarize(summaries, _hand_on(trainer, planner, tasks, earlier, summaries))


class _FirstsPlanner:
    """A planner that the first process alone has (its memory is one file), as all processes see it."""

    def __init__(self, planner: Planner | None, ranks: Ranks) -> None:
        self.planner, self.ranks = planner, ranks

    def plan(self, campaign: int, context: Mapping[str, Any]) -> Plan:
        plan: Plan = self._ask(lambda planner: planner.plan(campaign, context))
        return plan

    def retained(self, campaign: int) -> frozenset[int]:
        held: frozenset[int] = self._ask(lambda planner: planner.retained(campaign))
        return held

    def record(self, campaign: int, outcome: Mapping[str, Any]) -> None:
        self._ask(lambda planner: planner.record(campaign, outcome))

    def _ask(self, question: Callable[[Planner], Any]) -> Any:
        with self.ranks.sync_errors():
            answer = None if self.planner is None else question(self.planner)
        return self.ranks.broadcast(answer)


def _shared(planner: Planner | None, ranks: Ranks) -> Planner | None:
    """``planner`` for all processes; only the first one need give it."""
    if ranks.count == 1:
        return planner
    return _FirstsPlanner(planner, ranks) if ranks.broadcast(planner is not None) else None


def summarize(summaries: Sequence[Mapping[str, Any]], handed_on: int | None = None) -> dict[str, Any]:
    """``summary.json`` of a chain: start of the first campaign, best peak, end of the last, and kept of the campaign
    that ``handed_on`` names (the last one, if it names none). ``audit`` is of these same four policies: the peak is
    chosen on held-out tasks alone."""
    measured = [s for s in summaries if s["peak"] is not None]
    best = max(measured, key=lambda s: s["peak"]) if measured else summaries[0]
    first, last = summaries[0], summaries[-1]
    kept = last if handed_on is None else summaries[handed_on]
    whole: dict[str, Any] = {
        "start": first["start"],
        "peak": best["peak"],
        "peak_step": best["peak_step"],
        "peak_campaign": best["campaign"],
        "end": last["end"],
        "kept": first["start"] if handed_on == FIRST else kept["kept"],
        "kept_campaign": last["campaign"] if handed_on is None else handed_on,
    }
    if "audit" in last:
        whole["audit"] = {
            "start": first["audit"]["start"],
            "peak": best["audit"]["peak"],
            "end": last["audit"]["end"],
            "kept": first["audit"]["start"] if handed_on == FIRST else kept["audit"]["kept"],
            "tasks": last["audit"]["tasks"],
            "samples": last["audit"]["samples"],
        }
    whole["campaigns"] = list(summaries)
    return whole


def _strategy(trainer: Trainer, steps: int, lr: float) -> dict[str, Any]:
    config = trainer.config
    return {
        "algorithm": config.algorithm.name,
        "lr": lr,
        "steps": steps,
        "group_size": config.sampling.group_size,
        "prompts": config.sampling.prompts,
        "penalty": None if config.penalty.name == "none" else trainer.penalty.coefficient,
    }


def _hold(trainer: Trainer, planner: Planner | None, earlier: Handed, number: int) -> Handed:
    """Of the policies handed on so far, the one in the trainer (``number``) included, those the planner wants held."""
    wanted = planner.retained(number + 1) if planner is not None else frozenset()
    held = {k: weights for k, weights in earlier.items() if k in wanted}
    return held | ({number: trainer.weights()} if number in wanted else {})


def _go_to(trainer: Trainer, start_from: str | int, earlier: Handed) -> None:
    if start_from == "kept":
        return
    if start_from not in earlier:
        raise ConfigError(
            f"a planner may start from a policy it holds ({sorted(earlier)}) or from 'kept', got {start_from!r}: "
            "let its retained() name it"
        )
    trainer.load_weights(earlier[int(start_from)])


def _hand_on(
    trainer: Trainer,
    planner: Planner | None,
    tasks: CampaignTasks,
    earlier: Handed,
    summaries: Sequence[Mapping[str, Any]],
) -> int | None:
    """Leave the trainer with the policy that the chain hands on; its number, None if it is the last campaign's."""
    if planner is None:
        return None
    count = len(summaries)
    start_from = _plan(trainer, planner, tasks, count, summaries)["start_from"]
    _go_to(trainer, start_from, earlier)
    return None if start_from == "kept" else int(start_from)


def _source(campaign: int, plan: Mapping[str, Any]) -> int:
    """The number of the policy that a campaign starts from."""
    return campaign - 1 if plan["start_from"] == "kept" else int(plan["start_from"])


def _audit_of(number: int, summaries: Sequence[Mapping[str, Any]]) -> Audit | None:
    """The audit of the policy that campaign ``number`` handed on, where it is known; older runs have no halves."""
    if not summaries or "halves" not in summaries[0].get("audit", {}):
        return None
    audit = summaries[max(number, 0)]["audit"]
    key = "start" if number == FIRST else "kept"
    return audit[key], audit["halves"][key]


def _measure_ood(trainer: Trainer, tasks: CampaignTasks, campaign: int, purpose: str) -> dict[str, Any] | None:
    """Passes per out-of-distribution task of the policy in the trainer; ``drawn`` is what it cost in samples."""
    if not tasks.ood:
        return None
    samples = trainer.config.evaluate.samples
    try:
        passes = trainer.evaluate(tasks.ood, samples, campaign=campaign, step=0, purpose=purpose).passes
    except NonFiniteError:  # a policy that cannot be sampled from passes nothing
        passes = [0] * len(tasks.ood)
    return {"passes": passes, "samples": samples, "drawn": samples * len(passes)}


def _ood(
    trainer: Trainer,
    planner: Planner | None,
    tasks: CampaignTasks,
    campaign: int,
    plan: Mapping[str, Any],
    summaries: Sequence[Mapping[str, Any]],
) -> dict[str, Any] | None:
    """The same of the policy that ``campaign`` starts from: the tasks are the same in all campaigns, so the measurement
    at the end of the one that handed it on serves."""
    if planner is None:
        return None
    source = _source(campaign, plan)
    if source >= 0:
        known: dict[str, Any] | None = summaries[source]["ood"]
        return known
    return _measure_ood(trainer, tasks, 0, "ood-first")


def _plan(
    trainer: Trainer,
    planner: Planner | None,
    tasks: CampaignTasks,
    campaign: int,
    summaries: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """The planner's advice as plain values; without a planner, the configuration's."""
    config = trainer.config
    steps, lr = config.campaign.steps, config.optim.lr
    plan = {"action": "reuse", "steps": steps, "lr": lr, "penalty": None, "start_from": "kept", "reason": "no planner"}
    if planner is None:
        return plan
    state = _state(trainer, tasks, campaign - 1, summaries)
    advice = planner.plan(campaign, {"strategy": _strategy(trainer, steps, lr), "state": state})
    plan = {name: getattr(advice, name) for name in plan}
    return plan | {"state": _state(trainer, tasks, _source(campaign, plan), summaries)}


def _state(
    trainer: Trainer, tasks: CampaignTasks, number: int, summaries: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What is known of the policy that campaign ``number`` handed on, before anything is done to it."""
    state: dict[str, Any] = {"task_family": tasks.family, "model_parameters": trainer.policy.size}
    if number == FIRST:
        return state
    source = summaries[number]
    levels = _levels(source["capabilities"]["after"] if source["capabilities"] else {"pass1": source["kept"]})
    return {**state, **levels, **source["signals"]}


def _levels(vector: Mapping[str, float]) -> dict[str, float | None]:
    """A capability vector as a planner's state names it."""
    names = {"pass1": "pass1", "passk": "pass16", "unique_share": "diversity"}
    return {name: vector.get(capability) for name, capability in names.items()}


def _outcome(
    trainer: Trainer,
    tasks: CampaignTasks,
    plan: Mapping[str, Any],
    ood: Mapping[str, Any] | None,
    summary: Mapping[str, Any],
) -> dict[str, Any]:
    """What came of a campaign; its state is what was known before it, on its own tasks where they tell."""
    change = summary["capabilities"] or {"before": {"pass1": summary["start"]}, "after": {"pass1": summary["end"]}}
    state = plan["state"] | _levels(change["before"])
    if ood is not None:
        apart = capability_change(_shares(ood), _shares(summary["ood"]), ("ood",))
        change = {key: {**change.get(key, {}), **apart[key]} for key in apart}
    return {
        "strategy": _strategy(trainer, summary["steps"], plan["lr"]),
        "state": state,
        **{key: summary[key] for key in ("start", "peak", "peak_step", "end", "kept")},
        "start_from": plan["start_from"],
        "se": {"pass1": summary["se"]},
        **change,
    }


def _shares(ood: Mapping[str, Any]) -> Any:
    return np.array(ood["passes"])[:, None] / ood["samples"]
