"""How a step's cost grows with samples per prompt, prompt length, completion length, vocabulary; and evaluation's.

    uv run --group bench python benchmarks/cost_growth.py [--save] [--repeats N]

Rollout and update of a random Qwen2 (128 wide, 4 layers) that never ends a completion, from one base shape in which
one size varies at a time: with prompts shared, and the plain way (transformers' cache, every sample with its own padded
prompt) with the same products. Then, for each shipped policy, a held-out evaluation of n samples beside the rollout of
a step of N, drawing only: the ratio of their times is to stay below n/N. Medians.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sr_core import Engine, Policy
from sr_core.algorithms import make_algorithm
from sr_core.batch import Batch
from sr_core.config import GrpoConfig, OptimConfig, SamplingConfig
from sr_core.optim.objective import Objective
from sr_core.optim.update import update
from sr_core.policy import shipped_policies
from sr_reward.testbed import load_testbed

THREADS = 2
RESULTS = Path(__file__).parent / "results" / "cost_growth.json"
SWEEPS = {
    "samples": [2, 4, 8, 16, 32],
    "prompt_tokens": [32, 64, 128, 256, 512],
    "new_tokens": [16, 32, 64, 128],
    "vocabulary": [512, 2048, 8192, 32768],
}
STEP, EVALUATION = (8, 16), (32, 16)  # tasks x samples


@dataclass(frozen=True, kw_only=True)
class Shape:
    prompts: int = 4
    samples: int = 8
    prompt_tokens: int = 64
    new_tokens: int = 32
    vocabulary: int = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.relative_to(RESULTS.parents[2])} and .png")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    growth = {
        axis: [step_cost(replace(Shape(), **{axis: value}), options.repeats) | {axis: value} for value in values]
        for axis, values in SWEEPS.items()
    }
    table = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {THREADS} threads, torch {torch.__version__}",
        "base": asdict(Shape()),
        "growth": growth,
        "evaluation": {name: evaluation_cost(name, options.repeats) for name in shipped_policies()},
    }
    if options.save:
        RESULTS.write_text(json.dumps(table, indent=1) + "\n")
        draw(table)
    print(as_text(table))


def step_cost(shape: Shape, repeats: int) -> dict[str, float]:
    """Seconds of one step, shared and plain."""
    policy = random_policy(shape)
    costs = {}
    for way in ("shared", "plain"):
        engine = Engine(policy)
        engine.shares_prompts = way == "shared"
        costs[way] = median(partial(one_step, engine, shape), repeats)
    return costs


def one_step(engine: Engine, shape: Shape, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    prompts = torch.randint(0, shape.vocabulary, (shape.prompts, shape.prompt_tokens), generator=rng).tolist()
    sampling = SamplingConfig(temperature=1.0, max_new_tokens=shape.new_tokens)
    rollout = engine.sample(prompts, shape.samples, sampling, rng)
    rewards = torch.arange(shape.prompts * shape.samples).view(shape.prompts, shape.samples) % 2
    batch = Batch(
        rollout=rollout,
        rewards_PG=rewards.float(),
        valid_PG=torch.ones_like(rewards, dtype=torch.bool),
        sampled_tokens=sum(rollout.lengths),
    )
    algorithm = make_algorithm(GrpoConfig(), max_tokens=shape.new_tokens)
    sgd = torch.optim.SGD(engine.policy.model.parameters(), lr=0.0)
    update(engine, sgd, batch, Objective(algorithm=algorithm, temperature=1.0), OptimConfig())


def random_policy(shape: Shape) -> Policy:
    from transformers import AutoModelForCausalLM, Qwen2Config

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
    )
    model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    policy = Policy(model.eval(), Policy.load("pocket-rich").tokenizer)
    policy.end_ids = [-1]  # is never drawn
    return policy


def evaluation_cost(name: str, repeats: int) -> dict[str, float]:
    """Seconds to draw a step's samples and a held-out evaluation's."""
    policy, testbed = Policy.load(name), load_testbed()

    def drawing(tasks: list[Any], samples: int) -> Callable[[int], None]:
        def once(seed: int) -> None:
            prompts = [policy.prompt_ids(task.prompt) for task in tasks]
            rng = torch.Generator().manual_seed(seed)
            Engine(policy).sample(prompts, samples, SamplingConfig(temperature=0.7, max_new_tokens=48), rng)

        return once

    step = median(drawing(list(testbed.train[: STEP[0]]), STEP[1]), 3 * repeats)
    evaluation = median(drawing(list(testbed.heldout[: EVALUATION[0]]), EVALUATION[1]), repeats)
    return {"step_s": step, "evaluation_s": evaluation, "ratio": evaluation / step, "allowed": allowed()}


def allowed() -> float:
    """n/N."""
    return EVALUATION[0] * EVALUATION[1] / (STEP[0] * STEP[1])


def median(action: Callable[[int], None], repeats: int) -> float:
    action(0)
    times = []
    for seed in range(1, repeats + 1):
        began = time.perf_counter()
        action(seed)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def as_text(table: dict[str, Any]) -> str:
    lines = [f"{table['machine']}; base {table['base']}"]
    for axis, rows in table["growth"].items():
        lines += ["", f"{axis:>14}  shared s   plain s  plain/shared"]
        lines += [f"{r[axis]:14}{r['shared']:10.3f}{r['plain']:10.3f}{r['plain'] / r['shared']:14.2f}" for r in rows]
    lines.append("")
    for name, row in table["evaluation"].items():
        lines.append(
            f"{name}: evaluation of {EVALUATION[0]} x {EVALUATION[1]} samples {row['evaluation_s']:.3f} s, a step's "
            f"{STEP[0]} x {STEP[1]} {row['step_s']:.3f} s: {row['ratio']:.2f} times, allowed {row['allowed']:.2f}"
        )
    return "\n".join(lines)


def draw(table: dict[str, Any]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3), layout="constrained")
    for panel, (axis, rows) in zip(figure.subplots(1, len(SWEEPS), sharey=True), table["growth"].items(), strict=True):
        for way, style in (("shared", "o-"), ("plain", "s--")):
            panel.plot([r[axis] for r in rows], [r[way] for r in rows], style, label=f"{way} prompts")
        panel.set(xscale="log", yscale="log", xlabel=axis.replace("_", " "))
        panel.set_xticks([r[axis] for r in rows], [str(r[axis]) for r in rows])
        panel.minorticks_off()
    figure.axes[0].set_ylabel("seconds per step")
    figure.axes[0].legend()
    figure.savefig(RESULTS.with_suffix(".png"), dpi=110)


if __name__ == "__main__":
    main()
