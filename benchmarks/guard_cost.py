"""What a guard on a budget costs a campaign: samples, tokens, wall clock.

    uv run --group bench python benchmarks/guard_cost.py [--seeds 0-2] [--watch-reward] [--json]

A campaign of the embedded testbed (20 steps of 8 prompts x 16 samples, 30 held-out tasks), once without any evaluation
and once with ``CollapseGuard(evaluation="budget")``, seed by seed in turns; the audit is off in both. ``share``: the
guard's evaluations among all sampled tokens. ``ratio``: seconds of the guarded campaign over those of the free one.
``deciding``: the time inside the guard itself, its evaluations left out, as a share of the guarded campaign.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch

from sr_cli.assemble import make_grader, make_tasks
from sr_cli.config import RunConfig, load_config
from sr_core import Policy, Trainer, run_campaign
from sr_core.evaluation.evaluate import Evaluation
from sr_core.protocols import Task
from sr_core.unguarded import Unguarded
from sr_monitor import CollapseGuard

STEPS = 20
SETTINGS = ("sampling.prompts=8", f"campaign.steps={STEPS}", "optim.warmup_steps=10", "evaluate.audit_samples=0")
MOST_SHARE, MOST_RATIO, MOST_DECIDING = 0.30, 1.3, 0.005


class Counting(Trainer):
    """A trainer that counts the tokens its evaluations sample."""

    evaluation_tokens = 0

    def evaluate(self, tasks: Sequence[Task], samples: int, **place: Any) -> Evaluation:
        decode = self.policy.decode
        try:
            self.policy.decode = self._counted(decode)  # type: ignore[method-assign]
            return super().evaluate(tasks, samples, **place)
        finally:
            self.policy.decode = decode  # type: ignore[method-assign]

    def _counted(self, decode: Any) -> Any:
        def counting(tokens: Sequence[Sequence[int]]) -> Any:
            self.evaluation_tokens += sum(map(len, tokens))
            return decode(tokens)

        return counting


class Timed:
    """A guard whose own time is taken."""

    def __init__(self, guard: Any) -> None:
        self.guard, self.seconds = guard, 0.0

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.guard, name)
        if not callable(value):
            return value

        def timed(*given: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return value(*given, **named)
            finally:
                self.seconds += time.perf_counter() - began

        return timed


def campaign(config: RunConfig, seed: int, guard: Any) -> dict[str, float]:
    """Seconds, tokens and samples of one campaign."""
    tasks = make_tasks(config.tasks, seed)(0)
    with make_grader(config) as grader:
        trainer = Counting(Policy.load(config.train.policy), grader, config.training(seed))
        trainer.grader.grade(tasks.train[:1], [""])  # the sandbox starts before the clock
        rows: list[dict[str, Any]] = []
        began = time.perf_counter()
        run_campaign(trainer, tasks, guard, on_row=rows.append)
        seconds = time.perf_counter() - began
    trained = sum(row["sampled_tokens"] or 0 for row in rows)
    return {
        "seconds": seconds,
        "training_tokens": trained,
        "evaluation_tokens": trainer.evaluation_tokens,
        "evaluation_samples": sum(row["evaluation_samples"] for row in rows),
        "steps": len(rows) - 1,
    }


def measure(seed: int, watch_reward: bool) -> dict[str, Any]:
    """The same campaign free and guarded."""
    config = load_config(None, "testbed", list(SETTINGS))
    averaging = load_config(None, "testbed", [*SETTINGS, "optim.average=true"])  # as sr run does under a guard
    samples = config.train.sampling.prompts * config.train.sampling.group_size
    free = campaign(config, seed, Unguarded(samples=0))
    guard = Timed(CollapseGuard(evaluation="budget", train_samples=samples, watch_reward=watch_reward))
    guarded = campaign(averaging, seed, guard)
    return {
        "seed": seed,
        "free": free,
        "guarded": guarded,
        "share": guarded["evaluation_tokens"] / (guarded["evaluation_tokens"] + guarded["training_tokens"]),
        "ratio": guarded["seconds"] / free["seconds"],
        "deciding": guard.seconds / guarded["seconds"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0-2", help="first-last")
    parser.add_argument(
        "--watch-reward", action="store_true", help="a guard that evaluates sooner where the training reward falls"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    first, _, last = options.seeds.partition("-")
    runs = [measure(seed, options.watch_reward) for seed in range(int(first), int(last or first) + 1)]
    middle = {name: statistics.median(run[name] for run in runs) for name in ("share", "ratio", "deciding")}
    if options.json:
        machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
        print(json.dumps({"date": f"{datetime.date.today()}", "machine": machine, **middle, "runs": runs}, indent=1))
        return
    print(f"{'seed':>6}{'free s':>9}{'guarded s':>11}{'ratio':>8}{'tokens':>9}{'deciding':>10}")
    for run in runs:
        print(
            f"{run['seed']:>6}{run['free']['seconds']:>9.1f}{run['guarded']['seconds']:>11.1f}{run['ratio']:>8.2f}"
            f"{run['share']:>9.1%}{run['deciding']:>10.2%}"
        )
    print(f"{'median':>26}{middle['ratio']:>8.2f}{middle['share']:>9.1%}{middle['deciding']:>10.2%}")
    print(f"{'at most':>26}{MOST_RATIO:>8.2f}{MOST_SHARE:>9.1%}{MOST_DECIDING:>10.2%}")


if __name__ == "__main__":
    main()
