"""One training step, roll-out + grading + update, beside TRL's GRPOTrainer: seconds, phases, floor, peak memory.

    uv run --group bench python benchmarks/step_vs_trl.py [--json] [--save] [--steps N] [--rounds N] [--shape NAME]

Both sides get the same policy, prompts, sampling, rewards, algorithm (GRPO, one update per batch) and threads. Every
side runs in a process of its own, in turns, so that its peak memory is its own and other load hits all alike; the
median step of all rounds counts. The floor of a phase is the larger of its floating-point operations over what a
2048 x 2048 fp32 product reaches and of its bytes over what a copy reaches, both measured in the same run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sr_core.config import AlgorithmConfig, OptimConfig, SamplingConfig, TrainConfig
from sr_core.policy import Policy
from sr_core.trainer import Trainer
from sr_reward import CodeGrader, Task
from sr_reward.testbed import load_testbed

THREADS = 2
TEMPERATURE = 0.7
WARM_UP = 2  # steps that are not counted
RESULTS = Path(__file__).parent / "results" / "step_vs_trl.json"
SIDES = ("ours", "ours, duplicates computed", "trl")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """``prompts`` x ``samples`` sequences of at most ``new_tokens``; TRL is to take ``required`` times our time."""

    prompts: int
    samples: int
    new_tokens: int
    required: float
    aimed: float
    wide: int = 0  # hidden size of a random policy; 0 takes the shipped one
    layers: int = 0
    prompt_tokens: int = 0  # testbed prompts are joined up to this length; 0 leaves them alone


SHAPES = {
    "testbed": Shape(prompts=8, samples=16, new_tokens=48, required=3, aimed=5),
    "long_prompts": Shape(
        prompts=4, samples=16, new_tokens=64, required=5, aimed=8, wide=256, layers=6, prompt_tokens=320
    ),
}


@dataclass(frozen=True)
class Verdict:
    reward: float
    outcome: str = "passed"


class CheckSum:
    """Passes about half of all texts: random policies write no program that works, yet rewards must differ."""

    def grade(self, tasks: Sequence[Task], completions: Sequence[str]) -> list[Verdict]:
        del tasks
        return [Verdict(float(zlib.crc32(text.encode()) & 1)) for text in completions]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.relative_to(RESULTS.parents[2])}")
    parser.add_argument("--steps", type=int, default=10, help="counted steps of a round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--shape", choices=SHAPES, action="append", help="default: all")
    parser.add_argument("--side", choices=SIDES, action="append", help="default: all")
    parser.add_argument("--one", nargs=3, metavar=("SIDE", "SHAPE", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    if options.one:
        side, name, folder = options.one
        print(json.dumps(measure(side, SHAPES[name], Path(folder), options.steps)))
        return
    speed = machine_speed()
    shapes = {name: compare(name, speed, options) for name in options.shape or SHAPES}
    table = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {THREADS} threads, torch {torch.__version__}",
        "gflops": speed[0] / 1e9,
        "copy_gb_s": speed[1] / 1e9,
        "shapes": shapes,
    }
    if options.save:
        RESULTS.write_text(json.dumps(table, indent=1) + "\n")
    print(json.dumps(table) if options.json else as_text(table))


def compare(name: str, speed: tuple[float, float], options: argparse.Namespace) -> dict[str, Any]:
    """All sides of one shape, in turns."""
    rounds: dict[str, list[dict[str, Any]]] = {side: [] for side in options.side or SIDES}
    with tempfile.TemporaryDirectory() as folder:
        prepare(SHAPES[name], Path(folder))
        for _ in range(options.rounds):
            for side, results in rounds.items():
                command = [sys.executable, __file__, "--one", side, name, folder, "--steps", str(options.steps)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                results.append(json.loads(done.stdout.splitlines()[-1]))
    sides = {side: summary(results, speed) for side, results in rounds.items()}
    return headline(sides) | {"required": SHAPES[name].required, "aimed": SHAPES[name].aimed, "sides": sides}


def headline(sides: dict[str, dict[str, Any]]) -> dict[str, float | None]:
    """Seconds per step, and TRL's over ours; None for a side that was not run."""
    ours_s, trl_s = (sides[side]["step_s"] if side in sides else None for side in ("ours", "trl"))
    return {"ours_s": ours_s, "trl_s": trl_s, "ratio": trl_s / ours_s if ours_s and trl_s else None}


def summary(rounds: list[dict[str, Any]], speed: tuple[float, float]) -> dict[str, Any]:
    """Medians over all steps of all rounds."""

    def median(key: str) -> float:
        return float(statistics.median(step[key] for one in rounds for step in one["steps"]))

    phases = [key for key in rounds[0]["steps"][0] if key.endswith("_s")]
    floors = {key.removesuffix("_flops"): median(key) / speed[0] for key in rounds[0]["steps"][0] if "_flops" in key}
    for key in rounds[0]["steps"][0]:
        if key.endswith("_bytes"):
            phase = key.removesuffix("_bytes")
            floors[phase] = max(floors[phase], median(key) / speed[1])
    return {
        **{key: median(key) for key in phases},
        "floor_s": floors,
        "drawn_tokens": median("drawn_tokens"),
        "peak_mb": max(one["peak_mb"] for one in rounds),
    }


def measure(side: str, shape: Shape, folder: Path, steps: int) -> dict[str, Any]:
    """Per-step times of one side, in this process; ``peak_mb`` is what the steps hold beyond the loaded policy."""
    policy = Policy.load(folder)
    tasks = make_tasks(shape, policy)
    grader: Any = CheckSum() if shape.wide else CodeGrader(workers=THREADS)
    grader.grade(tasks[:1], ["    pass\n"])  # workers start before the clock does
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run = train_trl if side == "trl" else train_ours
    rows = run(shape, policy, folder, tasks, grader, steps + WARM_UP, side == "ours")
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"steps": rows[WARM_UP:], "peak_mb": after / 1024, "beyond_mb": (after - before) / 1024}


def train_ours(
    shape: Shape, policy: Policy, folder: Path, tasks: list[Task], grader: Any, steps: int, merge: bool
) -> list[dict[str, float]]:
    del folder
    config = TrainConfig(
        sampling=SamplingConfig(
            prompts=shape.prompts,
            group_size=shape.samples,
            temperature=TEMPERATURE,
            max_new_tokens=shape.new_tokens,
        ),
        algorithm=AlgorithmConfig(name="grpo"),
        optim=OptimConfig(lr=1e-6, merge_duplicates=merge),
    )
    trainer = Trainer(policy, grader, config)
    rows = []
    for step in range(1, steps + 1):
        batch = tasks_of(step - 1, shape, tasks)
        times = [time.perf_counter()]
        rollout = trainer.roll_out(batch, campaign=0, step=step)
        times.append(time.perf_counter())
        graded = trainer.grade(batch, rollout)
        times.append(time.perf_counter())
        trainer.update(graded)
        times.append(time.perf_counter())
        sequences = [(rollout.prompts[i // shape.samples], t) for i, t in enumerate(rollout.tokens)]
        rows.append(row(times) | floors(policy, sequences, shape.samples))
    return rows


def train_trl(
    shape: Shape, policy: Policy, folder: Path, tasks: list[Task], grader: Any, steps: int, merge: bool
) -> list[dict[str, float]]:
    """GRPOTrainer with transformers' generation, as it comes; the phases part where the rewards are asked for."""
    del policy, merge
    import transformers
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    by_id = {task.task_id: task for task in tasks}
    rows: list[dict[str, float]] = []
    times: list[float] = []
    drawn: list[int] = []

    def reward(completions: list[str], task_id: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        times.append(time.perf_counter())
        grades = grader.grade([by_id[name] for name in task_id], completions)
        times.append(time.perf_counter())
        drawn.append(sum(map(len, completion_ids)))
        return [grade.reward for grade in grades]

    class Clock(transformers.TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            times[:] = [time.perf_counter()]

        def on_step_end(self, *_: Any, **__: Any) -> None:
            rows.append(row([*times, time.perf_counter()]) | {"drawn_tokens": float(drawn[-1])})

    arguments = GRPOConfig(
        output_dir=str(folder / "trl"),
        per_device_train_batch_size=shape.prompts * shape.samples,
        num_generations=shape.samples,
        max_completion_length=shape.new_tokens,
        temperature=TEMPERATURE,
        top_k=0,
        beta=0.0,
        loss_type="grpo",
        learning_rate=1e-6,
        lr_scheduler_type="constant",
        max_steps=steps,
        shuffle_dataset=False,
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = GRPOTrainer(
        model=str(folder),
        reward_funcs=reward,
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": t.prompt, "task_id": t.task_id} for t in tasks]),
        callbacks=[Clock()],
    )
    trainer.train()
    return rows


def row(times: list[float]) -> dict[str, float]:
    start, sampled, graded, end = times
    return {
        "rollout_s": sampled - start,
        "grade_s": graded - sampled,
        "update_s": end - graded,
        "step_s": end - start,
    }


def floors(policy: Policy, sequences: Sequence[tuple[list[int], list[int]]], group: int) -> dict[str, float]:
    """Operations and bytes that a step with shared prompts cannot do without, nothing computed twice."""
    config = policy.model.config
    embedding = policy.model.get_input_embeddings().weight.numel()
    body = policy.size - embedding  # tied: the head is the embedding
    prompt_tokens = sum(len(p) for p, _ in sequences[::group])
    tokens = sum(len(t) for _, t in sequences)
    pairs = sum(len(p) * len(t) + len(t) ** 2 / 2 for p, t in sequences)
    pairs += sum(len(p) ** 2 / 2 for p, _ in sequences[::group])
    attention = 4.0 * config.num_hidden_layers * config.hidden_size * pairs
    forward = 2.0 * body * (prompt_tokens + tokens) + 2.0 * embedding * tokens + attention
    state = 2 * config.num_hidden_layers * config.hidden_size * 4  # keys and values of one token
    reads = max(len(t) for _, t in sequences) * policy.size * 4 + state * sum(len(t) ** 2 / 2 for _, t in sequences)
    return {
        "drawn_tokens": float(tokens),
        "rollout_flops": forward,
        "rollout_bytes": reads / 2,  # a copy moves every byte twice, a read once
        "update_flops": 3 * forward,
    }


def tasks_of(step: int, shape: Shape, tasks: list[Task]) -> list[Task]:
    start = step * shape.prompts
    return [tasks[i % len(tasks)] for i in range(start, start + shape.prompts)]


def make_tasks(shape: Shape, policy: Policy) -> list[Task]:
    """The testbed's training tasks; for long prompts, tasks whose prompts are several of the testbed's in a row."""
    tasks = list(load_testbed().train)
    if not shape.prompt_tokens:
        return tasks[: 64 * shape.prompts]
    joined = []
    for start in range(16 * shape.prompts):
        ids: list[int] = []
        for task in tasks[start:]:
            ids += policy.prompt_ids(task.prompt)
            if len(ids) >= shape.prompt_tokens:
                break
        text = policy.decode([ids[: shape.prompt_tokens]])[0]
        joined.append(Task(task_id=f"long-{start}", prompt=text, entry_point="f", tests=tasks[start].tests))
    return joined


def prepare(shape: Shape, folder: Path) -> None:
    """Save the policy that all sides load."""
    policy = Policy.load("pocket-rich")
    if shape.wide:
        from transformers import AutoModelForCausalLM, Qwen2Config

        torch.manual_seed(0)
        small = policy.model.config
        config = Qwen2Config(
            vocab_size=small.vocab_size,
            hidden_size=shape.wide,
            intermediate_size=4 * shape.wide,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.wide // 64,
            num_key_value_heads=shape.wide // 64,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=small.eos_token_id,
            pad_token_id=small.pad_token_id,
        )
        policy.model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    policy.save(folder)


def machine_speed() -> tuple[float, float]:
    """Floating-point operations and copied bytes (read plus written) per second."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    source = torch.randn(64 * 2**20)
    target = torch.empty_like(source)
    return 2 * 2048**3 / best(lambda: a @ b), 2 * source.numel() * 4 / best(lambda: target.copy_(source))


def best(action: Callable[[], object], times: int = 10) -> float:
    def once() -> float:
        began = time.perf_counter()
        action()
        return time.perf_counter() - began

    return min(once() for _ in range(times))


def as_text(table: dict[str, Any]) -> str:
    lines = [f"{table['machine']}: {table['gflops']:.0f} GFLOP/s, copy {table['copy_gb_s']:.1f} GB/s"]
    for name, shape in table["shapes"].items():
        lines += ["", f"{name} (required {shape['required']:g}x, aimed at {shape['aimed']:g}x)"]
        lines.append(f"{'':28}{'step':>9}{'rollout':>9}{'grade':>9}{'update':>9}{'peak MB':>9}{'tokens':>8}  TRL/this")
        trl = shape["sides"].get("trl")
        for side, one in shape["sides"].items():
            times = "".join(f"{one[key]:9.3f}" for key in ("step_s", "rollout_s", "grade_s", "update_s"))
            ratio = f"{trl['step_s'] / one['step_s']:10.2f}" if trl else ""
            lines.append(f"{side:28}{times}{one['peak_mb']:9.0f}{one['drawn_tokens']:8.0f}{ratio}")
            if one["floor_s"]:
                floor = one["floor_s"]
                cells = f"{sum(floor.values()):9.3f}{floor['rollout']:9.3f}{'':9}{floor['update']:9.3f}"
                lines.append(f"{'  floor':28}{cells}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
