"""What checkpoints cost a run: their share of the wall clock and the longest pause, every step and by cost.

    uv run --group bench --group models python benchmarks/checkpoint_cost.py [--policy NAME]... [--json]

Each policy trains on the testbed, at 8 prompts a step: first with a checkpoint at every step
(`campaign.checkpoint_every = 1`), then with the default. A share counts every write, those at the first step and at the
campaign's end included; `due` counts those that were not at the end. Step 0, which measures the policy, is in the time.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from sr_core import CampaignTasks, Policy, RunStore, TrainConfig, Trainer, run_campaign
from sr_core.config import CampaignConfig, EvaluateConfig, OptimConfig, PolicyConfig, SamplingConfig
from sr_reward import CodeGrader
from sr_reward.testbed import load_testbed

# steps with a checkpoint at every one, steps with checkpoints by cost, and samples of each of 8 prompts
PLANS = {"pocket-rich": (20, 40, 16), "smollm2-135m": (2, 24, 8)}


def measure(name: str, every: int | None, steps: int, samples: int) -> dict[str, Any]:
    """One campaign of ``steps`` updates; the first policy and the peak are retained, as the audit asks."""
    config = TrainConfig(
        policy=PolicyConfig(path=name, prompt="completion"),
        sampling=SamplingConfig(prompts=8, group_size=samples, max_new_tokens=48, batch_size=128),
        optim=OptimConfig(lr=1e-6, micro_batch_tokens=1024),
        campaign=CampaignConfig(steps=steps, checkpoint_every=every),
        evaluate=EvaluateConfig(samples=1, every=steps, audit_samples=1),
    )
    testbed = load_testbed()
    tasks = CampaignTasks(train=testbed.train[:64], heldout=testbed.heldout[:4], audit=testbed.audit[:1])
    with tempfile.TemporaryDirectory() as folder, CodeGrader() as grader:
        trainer = Trainer(Policy.load(config.policy), grader, config)
        store = RunStore.create(Path(folder) / "run", {})
        began, ended = time.monotonic(), [0.0]
        run_campaign(trainer, tasks, store=store, on_row=lambda row: ended.append(time.monotonic() - began))
        newest = max(store.checkpoints.glob("c*-step-*"))
        size = sum(path.stat().st_size for path in newest.iterdir())
    costs = store.pace.costs
    return {
        "checkpoint_every": every,
        "steps": steps,
        "samples_per_step": 8 * samples,
        "seconds": round(ended[-1], 2),
        "writes": len(costs),
        "share": round(sum(costs) / ended[-1], 4),
        "share_due": round(sum(costs[:-1]) / ended[-1], 4),
        "longest_pause_s": round(max(costs), 3),
        "checkpoint_bytes": size,
        "parameters": trainer.policy.size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", action="append", choices=sorted(PLANS), help="repeatable; left out, both")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    results = {}
    for name in arguments.policy or PLANS:
        before, after, samples = PLANS[name]
        results[name] = {
            "every_step": measure(name, 1, before, samples),
            "by_cost": measure(name, None, after, samples),
        }
    if arguments.json:
        machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
        print(json.dumps({"date": f"{datetime.date.today()}", "machine": machine, "policies": results}, indent=1))
        return
    print(f"{'policy':<16}{'checkpoints':<12}{'MB':>8}{'steps':>7}{'writes':>8}{'share':>8}{'due':>7}{'longest':>11}")
    for name, ways in results.items():
        for way, result in ways.items():
            numbers = f"{result['checkpoint_bytes'] / 1e6:>8.0f}{result['steps']:>7}{result['writes']:>8}"
            shares = f"{result['share']:>8.1%}{result['share_due']:>7.1%}{result['longest_pause_s']:>9.2f} s"
            print(f"{name:<16}{way:<12}{numbers}{shares}")


if __name__ == "__main__":
    main()
