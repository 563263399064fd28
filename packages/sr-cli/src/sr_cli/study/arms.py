"""What the study compares: regimes (a policy and a learning rate) and arms (a way to train), as plain settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sr_core.errors import ConfigError
from sr_core.sections import nearest
from sr_core.seeds import rng_for
from sr_monitor.guard.collapse_guard import BUDGET_EVERY

Settings = dict[str, Any]

# Ten campaigns of 20 steps as in the paper. The rest is the testbed's: a campaign starts with a fresh optimizer, whose
# rate rises all along it, so that a policy rises before it falls.
SHAPE: Settings = {
    "campaign.count": 10,
    "campaign.steps": 20,
    "sampling.prompts": 8,
    "sampling.group_size": 16,
    "optim.warmup_steps": 20,
    "tasks.audit": 100,
    "evaluate.audit_samples": 16,
    "evaluate.samples": 16,
    "evaluate.every": 1,
    "sandbox.workers": 1,  # chains run side by side
}
QUICK: Settings = {"campaign.count": 3, "campaign.steps": 12, "tasks.audit": 60}


@dataclass(frozen=True, kw_only=True)
class Regime:
    """A preset (the policy and its tasks) and a learning rate."""

    preset: str
    lr: float


# The main rate makes a first campaign rise until about its step 16 and fall from there, on seed 100, which no study
# uses. A third of it was meant to be the largest stable one, so that they stand at 1, 3 and 10 times that.
REGIMES: dict[str, Regime] = {
    "rich": Regime(preset="testbed", lr=2e-3),
    "fragile": Regime(preset="testbed-fragile", lr=2e-3),
    "rich-third": Regime(preset="testbed", lr=6e-4),
    "fragile-third": Regime(preset="testbed-fragile", lr=6e-4),
    "rich-triple": Regime(preset="testbed", lr=6e-3),
    "fragile-triple": Regime(preset="testbed-fragile", lr=6e-3),
}
MAIN_REGIMES = ("rich", "fragile")

TEACHERS = (0, 1, 2)  # the seeds whose memories another seed is given, to see whether they help it

Kind = Literal["main", "control", "penalty", "asymmetric", "care", "diagnostic"]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A way to train. ``decides``: its evaluations steer it and count as its cost; else they are for the record.

    ``after``: an arm whose measured budgets this one copies; ``copies`` says how: ``mean`` gives every campaign the
    mean number of steps that the other one took, ``shuffled`` the same numbers in another order, ``cost`` spreads as
    many evaluations over full campaigns. ``taught_by``: an arm whose memories of the ``TEACHERS`` this one begins
    with, so it runs under the other seeds only.
    """

    label: str
    kind: Kind
    settings: Settings = field(default_factory=dict)
    decides: bool = False
    after: str | None = None
    copies: Literal["mean", "shuffled", "cost"] | None = None
    taught_by: str | None = None
    retired: str = ""  # the option it needs and that is gone: its records are shown, and it is not run again

    @property
    def seeds(self) -> int:
        """How many seeds it gets, of those asked for."""
        return {"main": 5, "care": 5, "diagnostic": 1}.get(self.kind, 3)


def _es(mode: str, patience: int = 3) -> Settings:
    return {"guard.name": "early_stop", "guard.mode": mode, "guard.patience": patience}


def _care(version: str) -> Settings:
    return {"planner.name": "care", "planner.version": version}


GUARD: Settings = {"guard.name": "collapse", "evaluate.every": BUDGET_EVERY}
_AVERAGE: Settings = {"optim.average": "true"}  # the mean of a campaign's iterates is handed on
_GRPO: Settings = {"algorithm.name": "grpo"}
_SCHEDULE: Settings = {"planner.name": "schedule", "tasks.ood": 0}  # steps set beforehand, with nothing measured
_LONG: Settings = {"campaign.count": 1, "campaign.steps": 200}  # the paper's diagnostic: no chain, one campaign
_KL: Settings = {"penalty.name": "kl", "penalty.coefficient": 0.05}

ARMS: dict[str, Arm] = {
    "frozen": Arm(label="frozen policy", kind="control", settings=_SCHEDULE | {"planner.budgets": [0]}),
    "naive": Arm(label="naive REINFORCE", kind="main"),
    "es": Arm(label="ES, next budget", kind="main", settings=_es("next_budget"), decides=True),
    "grpo": Arm(label="GRPO", kind="main", settings=_GRPO),
    "guard": Arm(label="guard", kind="main", settings=GUARD, decides=True),
    "es_patience": Arm(label="ES, stop after the peak", kind="main", settings=_es("patience"), decides=True),
    "grpo_es": Arm(label="GRPO + ES", kind="main", settings=_GRPO | _es("next_budget"), decides=True),
    "guard_grpo": Arm(label="guard, GRPO", kind="main", settings=_GRPO | GUARD, decides=True),
    "care_v1": Arm(label="CARE v1", kind="care", settings=_care("v1"), decides=True),
    "care_v2": Arm(label="CARE v2", kind="care", settings=_care("v2"), decides=True),
    "care_v3": Arm(label="CARE v3", kind="care", settings=_care("v3"), decides=True),
    "care_memory_only": Arm(label="CARE, memory only", kind="care", settings=_care("memory_only"), decides=True),
    "care_gate_only": Arm(label="CARE, gate only", kind="care", settings=_care("gate_only"), decides=True),
    "care_no_revision": Arm(label="CARE, no revision", kind="care", settings=_care("no_revision"), decides=True),
    "care_v3_taught": Arm(
        label="CARE v3, memory of other seeds", kind="care", settings=_care("v3"), decides=True, taught_by="care_v3"
    ),
    "grpo_care": Arm(label="GRPO + CARE v2", kind="care", settings=_GRPO | _care("v2"), decides=True),
    "patience_5": Arm(label="ordinary patience, 5", kind="control", settings=_es("patience", 5), decides=True),
    "fixed_budget": Arm(label="fixed small budget", kind="control", settings=_SCHEDULE, after="es", copies="mean"),
    "random_stop": Arm(label="random stop", kind="control", settings=_SCHEDULE, after="es", copies="shuffled"),
    "best_of_n": Arm(
        label="best of N checkpoints",
        kind="control",
        settings=_es("next_budget", 10_000),
        decides=True,
        after="es",
        copies="cost",
    ),
    "kl_base": Arm(
        label="KL to the base, 0.01",
        kind="penalty",
        settings=_KL | {"penalty.reference": "base", "penalty.coefficient": 0.01},
    ),
    "kl_campaign": Arm(
        label="KL to the campaign's start, 0.05",
        kind="penalty",
        settings=_KL | {"penalty.reference": "campaign_start"},
    ),
    "kl_adaptive": Arm(label="adaptive KL", kind="penalty", settings=_KL | {"penalty.target": 0.02}),
    "strong_kl": Arm(label="strong KL", kind="penalty", settings={"penalty.name": "kl"}),
    "ewc": Arm(label="EWC, true Fisher", kind="penalty", settings={"penalty.name": "ewc"}),
    "wapo": Arm(label="WAPO", kind="asymmetric", settings={"algorithm.name": "wapo"}),
    "topr": Arm(label="TOPR", kind="asymmetric", settings={"algorithm.name": "topr"}),
    "asymre": Arm(label="AsymRE", kind="asymmetric", settings={"algorithm.name": "asymre"}),
    "guard_wapo": Arm(
        label="guard, WAPO", kind="asymmetric", settings={"algorithm.name": "wapo"} | GUARD, decides=True
    ),
    "average": Arm(label="weight averaging", kind="main", settings=_AVERAGE),
    "guard_last": Arm(
        label="guard without averaging", kind="main", settings=GUARD | {"optim.average": "false"}, decides=True
    ),
    "guard_means": Arm(
        label="guard, means only", kind="main", settings=GUARD, decides=True, retired="guard.last_iterate"
    ),
    "guard_hearing": Arm(
        label="guard that hears the reward",
        kind="main",
        settings=GUARD,
        decides=True,
        retired="guard.hear_reward",
    ),
    "long_naive": Arm(label="naive, 200 steps at once", kind="diagnostic", settings=_LONG),
    "long_guard": Arm(label="guard, 200 steps at once", kind="diagnostic", settings=_LONG | GUARD, decides=True),
}
QUICK_ARMS = ("naive", "es", "grpo", "guard")


def arms_named(names: Sequence[str]) -> list[str]:
    """The arms of these names, each after the one it copies or is taught by. Raises ConfigError for an unknown name."""
    for name in names:
        if name not in ARMS:
            raise ConfigError(f"unknown arm {name!r}: {nearest(name, ARMS)}")
    needed = (other for name in names for other in (ARMS[name].after, ARMS[name].taught_by))
    wanted = set(names) | {other for other in needed if other is not None}
    return [name for name in ARMS if name in wanted]


def regimes_named(names: Sequence[str]) -> list[str]:
    """The regimes of these names. Raises ConfigError for an unknown one."""
    for name in names:
        if name not in REGIMES:
            raise ConfigError(f"unknown regime {name!r}: {nearest(name, REGIMES)}")
    return [name for name in REGIMES if name in names]


def settings_of(regime: str, arm: str, quick: bool, copied: Settings) -> tuple[str, dict[str, Any]]:
    """Preset and settings of a chain; ``copied``: those taken from what another arm did."""
    where = REGIMES[regime]
    settings = {**SHAPE, "optim.lr": where.lr, **(QUICK if quick else {}), **ARMS[arm].settings}
    if not ARMS[arm].decides:
        settings["evaluate.every"] = 2  # for the record only
    return where.preset, settings | copied


def copied_settings(arm: str, steps: Sequence[int], evaluations: int, seed: int, most: int) -> Settings:
    """What ``arm`` takes over from a chain that took ``steps`` in its campaigns, of ``most`` each, with that many
    ``evaluations``."""
    how = ARMS[arm].copies
    if how == "mean":
        return {"planner.budgets": [round(sum(steps) / len(steps))] * len(steps)}
    if how == "shuffled":
        order = rng_for(seed, 0, 0, "random stop").permutation(len(steps))
        return {"planner.budgets": [steps[i] for i in order]}
    return {"evaluate.every": max(1, round(len(steps) * most / evaluations))}
