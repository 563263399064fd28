"""A reward that can be gamed: what steps of a measured size do about it, and what they cannot.

    uv run python benchmarks/gamed_reward.py [--steps 60] [--seed 100] [--save]

`pocket-rich` is trained on tasks of which only the first test counts; most first tests are an empty list or a zero, so
that a constant often passes. Held-out tasks have all their tests. Three runs: a fixed rate, measured steps, measured
steps with the guard, which sees the held-out tasks. The table: training reward (first test), held-out pass@1 (all
tests), both in percent, and the way of the policy since the start in nats per token (the sum of its steps' movements).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sr_core import CampaignTasks, Policy, TrainConfig, Trainer, run_campaign
from sr_core.config import CampaignConfig, EvaluateConfig, OptimConfig, PolicyConfig, SamplingConfig
from sr_core.protocols import Guard
from sr_core.unguarded import Unguarded
from sr_monitor import CollapseGuard
from sr_reward import CodeGrader, Task
from sr_reward.task import CallTests
from sr_reward.testbed import load_testbed

RECORD = Path(__file__).parent / "results" / "gamed_reward.json"
EVERY, SAMPLES = 5, 16
ARMS: dict[str, tuple[OptimConfig, Callable[[], Guard]]] = {
    "fixed": (OptimConfig(lr=2e-3, warmup_steps=20), lambda: Unguarded(every=EVERY, samples=SAMPLES)),
    "measured": (OptimConfig(lr=2e-3, step="measured"), lambda: Unguarded(every=EVERY, samples=SAMPLES)),
    "measured, guard": (OptimConfig(lr=2e-3, step="measured"), CollapseGuard),
}


def first_test_only(tasks: Sequence[Task]) -> list[Task]:
    """The tasks as a careless author would have written them."""
    kept = []
    for task in tasks:
        assert isinstance(task.tests, CallTests)
        kept.append(replace(task, tests=replace(task.tests, cases=task.tests.cases[:1])))
    return kept


def run(arm: str, steps: int, seed: int) -> dict[str, Any]:
    optim, make_guard = ARMS[arm]
    config = TrainConfig(
        seed=seed,
        policy=PolicyConfig(path="pocket-rich", prompt="completion"),
        sampling=SamplingConfig(prompts=8, group_size=16, max_new_tokens=48),
        optim=optim,
        campaign=CampaignConfig(steps=steps),
        evaluate=EvaluateConfig(audit_samples=16),
    )
    testbed = load_testbed()
    tasks = CampaignTasks(
        train=first_test_only(testbed.train[:200]), heldout=testbed.heldout[:30], audit=testbed.audit[:100]
    )
    rows: list[dict[str, Any]] = []
    with CodeGrader() as grader:
        trainer = Trainer(Policy.load(config.policy), grader, config)
        summary = run_campaign(trainer, tasks, make_guard(), on_row=rows.append)
    kept = ("step", "train_reward", "heldout_pass1", "step_kl_total")
    assert summary.audit is not None
    return {
        "kept_step": summary.kept_step,
        "audit": [summary.audit.start, summary.audit.kept],
        "rows": [{key: row[key] for key in kept} for row in rows],
    }


def percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def show(results: dict[str, dict[str, Any]]) -> None:
    print(f"{'arm':<16}{'step':>5}{'reward':>8}{'held-out':>10}{'way':>8}")
    for arm, result in results.items():
        for row in result["rows"]:
            if row["step"] % (2 * EVERY) == 0:
                way = "" if row["step_kl_total"] is None else f"{row['step_kl_total']:.2f}"
                rates = f"{percent(row['train_reward']):>8}{percent(row['heldout_pass1']):>10}"
                print(f"{arm:<16}{row['step']:>5}{rates}{way:>8}")
        audit = result["audit"]
        print(f"{arm:<16} kept: step {result['kept_step']}; audit {percent(audit[0])} to {percent(audit[1])}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seed", type=int, default=100)
    parser.add_argument("--save", action="store_true", help=f"write {RECORD.name}")
    options = parser.parse_args()
    results = {arm: run(arm, options.steps, options.seed) for arm in ARMS}
    show(results)
    if options.save:
        RECORD.write_text(json.dumps({"steps": options.steps, "seed": options.seed, "arms": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
