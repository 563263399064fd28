"""A chain: campaigns one after another, each from the policy that the one before handed on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sr_core.campaign import CampaignTasks, Row, run_campaign
from sr_core.protocols import Guard, Planner
from sr_core.store import RunStore
from sr_core.trainer import Trainer

__all__ = ["run_chain"]


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
    the chain (keys as in ``summary.json``); the trainer is left with the policy handed on last.
    """
    checkpoint = store.load() if store is not None else None
    first = 0 if checkpoint is None else checkpoint.campaign
    summaries: list[dict[str, Any]] = [] if checkpoint is None else list(checkpoint.state["notes"]["summaries"])
    for campaign in range(first, trainer.config.campaign.count):
        if checkpoint is None:
            plan = trainer.ranks.from_first(_plan(trainer, planner, campaign, summaries))
            plan["lr"] *= getattr(guard, "lr_scale", 1.0)
            trainer.begin_campaign(lr=plan["lr"], penalty=plan["penalty"])
        else:
            plan = checkpoint.state["notes"]["plan"]
        summary = run_campaign(
            trainer,
            draw(campaign),
            guard,
            campaign=campaign,
            steps=plan["steps"],
            store=store,
            checkpoint=checkpoint,
            notes={"summaries": summaries, "plan": plan},
            start_audit=summaries[-1].get("audit", {}).get("kept") if summaries else None,
            on_row=on_row,
        )
        checkpoint = None
        if planner is not None:
            planner.record(campaign, _outcome(trainer, plan, summary))
            summary["plan"] = plan
        summaries = [*summaries, summary]
    return summarize(summaries)


def summarize(summaries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """``summary.json`` of a chain: start of the first campaign, best peak, end and kept of the last."""
    measured = [s for s in summaries if s["peak"] is not None]
    best = max(measured, key=lambda s: s["peak"]) if measured else summaries[0]
    first, last = summaries[0], summaries[-1]
    whole: dict[str, Any] = {
        "start": first["start"],
        "peak": best["peak"],
        "peak_step": best["peak_step"],
        "peak_campaign": best["campaign"],
        "end": last["end"],
        "kept": last["kept"],
    }
    if "audit" in last:
        audits = [s["audit"] for s in summaries]
        whole["audit"] = {
            "start": audits[0]["start"],
            "peak": max(a["peak"] for a in audits),
            "end": audits[-1]["end"],
            "kept": audits[-1]["kept"],
            "tasks": audits[-1]["tasks"],
            "samples": audits[-1]["samples"],
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


def _plan(
    trainer: Trainer, planner: Planner | None, campaign: int, summaries: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """The planner's advice as plain values; without a planner, the configuration's."""
    config = trainer.config
    steps, lr = config.campaign.steps, config.optim.lr
    if planner is None:
        return {"action": "reuse", "steps": steps, "lr": lr, "penalty": None, "reason": "no planner"}
    known = summaries[-1] if summaries else {}
    state = {"pass1": known.get("kept"), "model_parameters": trainer.policy.size, **known.get("signals", {})}
    plan = planner.plan(campaign, {"strategy": _strategy(trainer, steps, lr), "state": state})
    return {
        "action": plan.action,
        "steps": plan.steps,
        "lr": plan.lr,
        "penalty": plan.penalty,
        "reason": plan.reason,
    }


def _outcome(trainer: Trainer, plan: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "strategy": _strategy(trainer, summary["steps"], plan["lr"]),
        "state": {"pass1": summary["start"], "model_parameters": trainer.policy.size, **summary["signals"]},
        **{key: summary[key] for key in ("start", "peak", "peak_step", "end", "kept")},
        "before": {"pass1": summary["start"]},
        "after": {"pass1": summary["end"]},
        "se": {"pass1": summary["se"]},
    }
