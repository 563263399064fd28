"""How long a roll-back takes, and the snapshot it returns to, for each shipped policy.

    uv run --group bench python benchmarks/rollback.py [--json]

"snapshot": what a training step waits for when its state is kept (weights, AdamW's moments, coefficients, baseline);
on a GPU the copy itself runs beside the training, "copied" is when it is complete. "roll_back": weights, moments,
coefficients and baseline are the snapshot's again, and the penalty's reference, a policy of its own, is set anew.
"floor": copying as many bytes once, measured in the same run. Medians of 20.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from sr_core import Policy, TrainConfig, Trainer
from sr_core.config import KlConfig, SamplingConfig
from sr_core.policy import shipped_policies
from sr_reward import CodeGrader
from sr_reward.testbed import load_testbed

REPEATS = 20
GOAL_S = 1.0


def seconds(call: Callable[[], object]) -> float:
    """Median time of a call, the device's work included."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(name: str) -> dict[str, Any]:
    config = TrainConfig(
        sampling=SamplingConfig(prompts=2, group_size=4),
        penalty=KlConfig(reference="campaign_start"),
    )
    with CodeGrader() as grader:
        trainer = Trainer(Policy.load(name), grader, config)
        tasks = load_testbed().train[:2]
        graded = trainer.grade(tasks, trainer.rollout(tasks, campaign=0, step=1))
    trainer.update(graded)  # so that there are moments
    kept = trainer.snapshot(moments=True)

    def roll_back() -> None:
        trainer.roll_back(kept, lr_factor=1.0, reset_optimizer=False)
        trainer.penalty.begin_campaign(trainer.engine, None)

    moved = [*kept.weights.values(), *(v for s in kept.position["optimizer"].values() for v in s.values())]
    moved += kept.weights.values()  # the reference
    size = sum(t.numel() * t.element_size() for t in moved)
    block, target = (
        torch.ones(size, dtype=torch.uint8),
        torch.empty(size, dtype=torch.uint8, device=trainer.policy.device),
    )
    return {
        "parameters": trainer.policy.size,
        "device": str(trainer.policy.device),
        "bytes": size,
        "snapshot_s": seconds(lambda: trainer.snapshot(moments=True)),
        "copied_s": seconds(lambda: trainer.snapshot(moments=True).weights),
        "roll_back_s": seconds(roll_back),
        "floor_s": seconds(lambda: target.copy_(block)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    results = {name: measure(name) for name in shipped_policies()}
    if arguments.json:
        machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
        print(json.dumps({"date": f"{datetime.date.today()}", "machine": machine, "policies": results}, indent=1))
        return
    print(f"{'policy':<16}{'MB':>8}{'snapshot':>12}{'copied':>12}{'roll-back':>12}{'floor':>12}")
    for name, result in results.items():
        times = "".join(f"{result[key] * 1e3:>9.2f} ms" for key in ("snapshot_s", "copied_s", "roll_back_s", "floor_s"))
        verdict = "" if result["roll_back_s"] < GOAL_S else f"   over {GOAL_S:g} s"
        print(f"{name:<16}{result['bytes'] / 1e6:>8.1f}{times}{verdict}")


if __name__ == "__main__":
    main()
