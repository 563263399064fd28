"""Host memory of full fine-tuning at its peak, by what holds it.

    uv run --group bench --group models python benchmarks/memory.py [--policy NAME] [--dtype float32|bfloat16]
        [--micro-batch-tokens 1024] [--json]

One step of 8 prompts x 16 samples of at most 48 tokens on the testbed, the first policy and a peak retained, as a run
with an audit has them. Tensors are counted; `activations` is what the process needed above them at its peak (the cache
of sampling and the score of a micro-batch, too), without the interpreter and its libraries. CPU, Linux.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import platform
import re
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from sr_core import Policy, TrainConfig, Trainer
from sr_core.config import OptimConfig, PolicyConfig, SamplingConfig
from sr_reward import CodeGrader
from sr_reward.testbed import load_testbed

STATUS = Path("/proc/self/status")


def resident(key: str) -> int:
    """``VmRSS`` (now) or ``VmHWM`` (at the peak), in bytes."""
    found = re.search(rf"{key}:\s+(\d+) kB", STATUS.read_text())
    assert found is not None
    return int(found.group(1)) * 1024


def size(tensors: list[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def measure(name: str, dtype: Literal["float32", "bfloat16"], micro_batch_tokens: int) -> dict[str, int]:
    libraries = resident("VmRSS")
    config = TrainConfig(
        policy=PolicyConfig(path=name, prompt="completion", dtype=dtype, device="cpu"),
        sampling=SamplingConfig(prompts=8, group_size=16, max_new_tokens=48, batch_size=128),
        optim=OptimConfig(lr=1e-6, micro_batch_tokens=micro_batch_tokens),
    )
    tasks = load_testbed().train[:8]
    with CodeGrader() as grader:
        trainer = Trainer(Policy.load(config.policy), grader, config)
        retained = [trainer.snapshot(moments=False) for _ in range(2)]
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew: loading is not training
        batch = trainer.grade(tasks, trainer.rollout(tasks, campaign=0, step=1))
        batch.rewards_PG[:, ::2] = 1 - batch.rewards_PG[:, ::2]  # every prompt is trained, whatever it solves
        trainer.update(batch)
        peak = resident("VmHWM")
    model = list(trainer.policy.model.parameters())
    stepped = [p for group in trainer.optimizer.param_groups for p in group["params"]]
    moments = [v for state in trainer.optimizer.state.values() for v in state.values() if isinstance(v, Tensor)]
    held = {
        "weights": size(model),
        "master_weights": 0 if stepped[0] is model[0] else size(stepped),
        "gradients": size(stepped),
        "moments": size(moments),
        "retained": sum(size(list(snapshot.weights.values())) for snapshot in retained),
    }
    return held | {
        "activations": max(peak - libraries - sum(held.values()), 0),
        "libraries": libraries,
        "peak": peak,
        "parameters": trainer.policy.size,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="smollm2-135m")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument(
        "--micro-batch-tokens", type=int, default=1024, help="of the update (default 1024, the preset's)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    found = measure(arguments.policy, arguments.dtype, arguments.micro_batch_tokens)
    if arguments.json:
        machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
        origin = {"date": f"{datetime.date.today()}", "machine": machine, "policy": arguments.policy}
        settings = {"dtype": arguments.dtype, "micro_batch_tokens": arguments.micro_batch_tokens}
        print(json.dumps(origin | settings | {"bytes": found}, indent=1))
        return
    for name, count in found.items():
        print(f"{name:<16}{count:>12,}" if name == "parameters" else f"{name:<16}{count / 1e9:>9.2f} GB")


if __name__ == "__main__":
    main()
