"""Puts the four packages together as a configuration says: tasks, grader, guard, planner."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from sr_care import CapabilityMemory, CarePlanner
from sr_cli.config import (
    CareConfig,
    CollapseConfig,
    EarlyStopConfig,
    RunConfig,
    SandboxConfig,
    ScheduleConfig,
    TasksConfig,
)
from sr_cli.launched import neighbours
from sr_core import Policy
from sr_core.config import PolicyConfig
from sr_core.errors import ConfigError
from sr_core.evaluation.completions import Sampler
from sr_core.evaluation.settings import EvaluationConfig, for_evaluation
from sr_core.protocols import Guard, Planner
from sr_core.tasks import CampaignTasks, Pools, choose, split
from sr_core.unguarded import Schedule
from sr_monitor import CollapseGuard, EarlyStop
from sr_reward import CodeGrader, Task, load_tasks
from sr_reward.prompts import Prompter, load_template
from sr_reward.testbed import load_testbed


def make_prompter(config: PolicyConfig) -> Prompter:
    """What renders tasks: the templates of ``sr_reward.prompts``, or the configured file."""
    return Prompter(template=load_template(config.template) if config.template else None, shots=config.shots)


def make_policy(config: PolicyConfig) -> Policy:
    """The policy, with what renders its tasks."""
    return Policy.load(config, prompter=make_prompter(config))


def read_evaluation(policy: str, source: str, temperature: float, settings: Sequence[str]) -> EvaluationConfig:
    """The configuration of an evaluation, ``settings`` over the other values."""
    sampling = {"temperature": temperature, "max_new_tokens": 48 if source == "testbed" else 512}
    return for_evaluation({"policy": {"path": policy}, "sampling": sampling}, settings, SandboxConfig)


def make_sampler(config: EvaluationConfig, samples: int, seed: int) -> Sampler:
    """What draws the completions of an evaluation."""
    origin = {"policy": config.policy.path, "template": config.policy.template}
    return Sampler(make_policy(config.policy), config.sampling, samples, seed, origin)


def make_judge(config: EvaluationConfig) -> CodeGrader:
    """The grader of an evaluation: what ``[sandbox]`` does not say is as in ``sr grade``."""
    given: dict[str, Any] = {key: value or None for key, value in config.sandbox.items()}  # 0 workers: one per core
    return CodeGrader(**given)


def make_grader(config: RunConfig) -> CodeGrader:
    """The grader with the isolation of ``[sandbox]``; nothing starts before the first program."""
    sandbox = config.sandbox
    return CodeGrader(
        workers=sandbox.workers or max(1, (os.cpu_count() or 1) // neighbours()),
        timeout_s=sandbox.timeout_s,
        memory_mb=sandbox.memory_mb,
        isolation=sandbox.isolation,
        require_isolation=sandbox.require_isolation or None,
    )


def given_tasks(config: TasksConfig) -> list[Task]:
    """The tasks of the file that ``tasks.path`` names; none for the testbed, whose tests are known to run."""
    return [] if config.path == "testbed" else list(load_tasks(config.path))


def make_tasks(config: TasksConfig, seed: int, left_out: Collection[str] = ()) -> Callable[[int], CampaignTasks]:
    """Campaign number -> its tasks, without the ids ``left_out``. Raises ConfigError when too many are asked for."""
    return _pools(config, seed, left_out).draws(train=config.train, heldout=config.heldout, seed=seed)


def _pools(config: TasksConfig, seed: int, left_out: Collection[str]) -> Pools:
    if config.path != "testbed":
        tasks = [task for task in given_tasks(config) if task.task_id not in left_out]
        counts = {"train": config.train, "heldout": config.heldout}
        return split(tasks, config.path, **counts, audit=config.audit or 0, seed=seed)
    testbed = load_testbed()
    audit = len(testbed.audit) if config.audit is None else config.audit
    for key, wanted, pool in (("audit", audit, testbed.audit), ("ood", config.ood, testbed.ood)):
        if wanted > len(pool):
            raise ConfigError(f"tasks.{key} must be at most {len(pool)} (the testbed's), got {wanted}")
    ood = choose(testbed.ood, config.ood, seed, 0, "ood tasks")
    return Pools(train=testbed.train, heldout=testbed.heldout, audit=testbed.audit[:audit], ood=ood, name=config.path)


def make_guard(config: RunConfig) -> Guard | None:
    """Who decides within a campaign."""
    guard, evaluate, sampling = config.guard, config.train.evaluate, config.train.sampling
    if isinstance(guard, EarlyStopConfig):
        every = evaluate.every or 1
        return EarlyStop(mode=guard.mode, patience=guard.patience, samples=evaluate.samples, every=every)
    if isinstance(guard, CollapseConfig):
        limited = guard.budget < 1
        return CollapseGuard(
            false_alarm=guard.false_alarm,
            margin=guard.margin,
            max_rollbacks=guard.max_rollbacks,
            lr_factor=guard.lr_factor,
            evaluation="budget" if limited else "full",
            share=guard.budget if limited else CollapseConfig.budget,
            last_iterate=bool(config.train.optim.average),
            train_samples=sampling.prompts * sampling.group_size,
            samples=evaluate.samples,
            every=evaluate.every,
        )
    return None


def make_planner(config: RunConfig, seed: int, folder: Path, run: str = "run", resumed: bool = False) -> Planner | None:
    """Who decides between campaigns of ``run``; one that is ``resumed`` must find the memory that it began with."""
    planner = config.planner
    if isinstance(planner, ScheduleConfig):
        return Schedule(planner.budgets)
    if isinstance(planner, CareConfig):
        memory = CapabilityMemory(planner.memory or folder / "memory.sqlite", create=not resumed)
        return CarePlanner(memory, version=planner.version, run=run, seed=seed)
    return None


def check_memory(config: RunConfig, going_on: bool) -> None:
    """Raise CareError where the memory named for a new run cannot be written."""
    if isinstance(config.planner, CareConfig) and config.planner.memory and not going_on:
        CapabilityMemory(config.planner.memory).close()
