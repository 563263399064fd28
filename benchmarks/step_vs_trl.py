"""One training step, rollout + grading + update, beside TRL's GRPOTrainer: seconds, phases, floor, peak memory.

    uv run --group bench python benchmarks/step_vs_trl.py [--json] [--save] [--steps N] [--rounds N] [--shape NAME]

Both sides get the same policy, prompts, sampling, rewards, algorithm (GRPO, one update per batch) and threads. Every
side runs in a process of its own, in turns, so that its peak memory is its own and other load hits all alike; the
median step of all rounds counts. The floor of a phase is the larger of its floating-point operations over what a
square product reaches (fp32, 2048 wide; on a GPU bfloat16, 8192) and of its bytes over what a copy reaches, both
measured in the same run. Where torch sees a GPU the shapes of Qwen2.5 run there, with random weights in bfloat16.
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
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from sr_core.config import GrpoConfig, OptimConfig, PolicyConfig, SamplingConfig, TrainConfig
from sr_core.policy import Policy
from sr_core.trainer import Trainer
from sr_reward import CodeGrader, Task
from sr_reward.testbed import load_testbed

THREADS = 2
TEMPERATURE = 0.7
WARM_UP = 2  # steps that are not counted
RESULTS = Path(__file__).parent / "results" / "step_vs_trl.json"
SIDES = ("ours", "trl")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """``prompts`` x ``samples`` sequences of at most ``new_tokens``; TRL is to take ``required`` times our time.

    ``model``: of a random policy, what its configuration has beside the shipped one's; empty takes the shipped one.
    """

    prompts: int
    samples: int
    new_tokens: int
    required: float
    aimed: float
    model: dict[str, Any] = field(default_factory=dict)
    prompt_tokens: int = 0  # testbed prompts are joined up to this length; 0 leaves them alone
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    lora_rank: int = 0
    trl_batch: int = 0  # sequences that TRL takes at once, the rest by accumulation; 0: all
    sides: tuple[str, ...] = SIDES

    @property
    def on_device(self) -> PolicyConfig:
        return PolicyConfig(device=self.device, dtype=self.dtype, lora_rank=self.lora_rank)


def wide(hidden: int, mlp: int, layers: int, heads: int, kv_heads: int, **others: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        **others,
    }


def on_gpu(model: dict[str, Any], **others: Any) -> Shape:
    """256 sequences of 256 tokens after prompts as long, in bfloat16; ours alone unless told otherwise."""
    settings = {"prompts": 16, "samples": 16, "new_tokens": 256, "prompt_tokens": 256, "required": 0, "aimed": 0}
    where = {"device": "cuda", "dtype": "bfloat16", "sides": ("ours",)}
    return Shape(model=model | {"vocab_size": 151_936}, **{**settings, **where, **others})


SHAPES = {
    "testbed": Shape(prompts=8, samples=16, new_tokens=48, required=3, aimed=5),
    "long_prompts": Shape(
        prompts=4, samples=16, new_tokens=64, required=5, aimed=8, model=wide(256, 1024, 6, 4, 4), prompt_tokens=320
    ),
    "gpu_0.5b": on_gpu(wide(896, 4864, 24, 14, 2), required=3, aimed=3, trl_batch=32, sides=("ours", "trl")),
    "gpu_1.5b": on_gpu(wide(1536, 8960, 28, 12, 2)),
    "gpu_3b": on_gpu(wide(2048, 11008, 36, 16, 2)),
    "gpu_7b_lora": on_gpu(wide(3584, 18944, 28, 28, 4), lora_rank=16),
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
    parser.add_argument("--shape", choices=SHAPES, action="append", help="default: all of the GPU, or of the CPU")
    parser.add_argument("--side", choices=SIDES, action="append", help="default: all")
    parser.add_argument("--one", nargs=3, metavar=("SIDE", "SHAPE", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    if options.one:
        side, name, folder = options.one
        print(json.dumps(measure(side, SHAPES[name], Path(folder), options.steps)))
        return
    device = "cuda" if torch.cuda.is_available() else "cpu"
    names = options.shape or [name for name, shape in SHAPES.items() if shape.device == device]
    for name in names:
        if SHAPES[name].device == "cuda" != device:
            parser.error(f"the shape {name} is a GPU's, and torch sees none here")
    device = SHAPES[names[0]].device
    speed = machine_speed(device)
    shapes = {name: compare(name, speed, options) for name in names}
    where = f"{torch.cuda.get_device_name()}" if device == "cuda" else f"{platform.machine()}, {THREADS} threads"
    table = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{where}, torch {torch.__version__}",
        "gflops": speed[0] / 1e9,
        "copy_gb_s": speed[1] / 1e9,
        "shapes": shapes,
    }
    if options.save:
        RESULTS.write_text(json.dumps(table, indent=1) + "\n")
    print(json.dumps(table) if options.json else as_text(table))


def compare(name: str, speed: tuple[float, float], options: argparse.Namespace) -> dict[str, Any]:
    """All sides of one shape, in turns."""
    rounds: dict[str, list[dict[str, Any]]] = {side: [] for side in options.side or SHAPES[name].sides}
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
    """Per-step times of one side, in this process, and the most memory that it held (on a GPU, of the GPU's)."""
    policy = Policy.load(replace(shape.on_device, path=str(folder)))
    tasks = make_tasks(shape, policy)
    grader: Any = CheckSum() if shape.model else CodeGrader(workers=THREADS)
    grader.grade(tasks[:1], ["    pass\n"])  # workers start before the clock does
    if side == "trl" and shape.device == "cuda":
        policy.model.to("cpu")  # TRL loads its own
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    run = train_trl if side == "trl" else train_ours
    rows = run(shape, policy, folder, tasks, grader, steps + WARM_UP)
    peak = torch.cuda.max_memory_allocated() / 2**20 if shape.device == "cuda" else _resident_mb()
    return {"steps": rows[WARM_UP:], "peak_mb": peak}


def _resident_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def now(shape: Shape) -> float:
    """Seconds, when all that was asked of the device is done."""
    if shape.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def train_ours(
    shape: Shape, policy: Policy, folder: Path, tasks: list[Task], grader: Any, steps: int
) -> list[dict[str, float]]:
    del folder
    config = TrainConfig(
        sampling=SamplingConfig(
            prompts=shape.prompts,
            group_size=shape.samples,
            temperature=TEMPERATURE,
            max_new_tokens=shape.new_tokens,
        ),
        algorithm=GrpoConfig(),
        optim=OptimConfig(lr=1e-6),
    )
    trainer = Trainer(policy, grader, config)
    rows = []
    for step in range(1, steps + 1):
        batch = tasks_of(step - 1, shape, tasks)
        times = [now(shape)]
        rollout = trainer.rollout(batch, campaign=0, step=step)
        times.append(now(shape))
        graded = trainer.grade(batch, rollout)
        times.append(now(shape))
        trainer.update(graded)
        times.append(now(shape))
        sequences = [(rollout.prompts[i // shape.samples], t) for i, t in enumerate(rollout.tokens)]
        rows.append(row(times) | floors(policy, sequences, shape.samples))
    return rows


def train_trl(
    shape: Shape, policy: Policy, folder: Path, tasks: list[Task], grader: Any, steps: int
) -> list[dict[str, float]]:
    """GRPOTrainer with transformers' generation, as it comes; the phases part where the rewards are asked for."""
    del policy
    import transformers
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    by_id = {task.task_id: task for task in tasks}
    rows: list[dict[str, float]] = []
    times: list[float] = []
    drawn: list[int] = []

    def reward(completions: list[str], task_id: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        times.append(now(shape))
        grades = grader.grade([by_id[name] for name in task_id], completions)
        times.append(now(shape))
        drawn.append(sum(map(len, completion_ids)))
        return [grade.reward for grade in grades]

    class Clock(transformers.TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            times[:] = [now(shape)]

        def on_step_end(self, *_: Any, **__: Any) -> None:
            rows.append(row([*times, now(shape)]) | {"drawn_tokens": float(drawn[-1])})

    sequences = shape.prompts * shape.samples
    at_once = shape.trl_batch or sequences
    arguments = GRPOConfig(
        output_dir=str(folder / "trl"),
        model_init_kwargs={"dtype": shape.dtype},
        per_device_train_batch_size=at_once,
        gradient_accumulation_steps=sequences // at_once,
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
        bf16=shape.dtype == "bfloat16",
        use_cpu=shape.device == "cpu",
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
    heads = config.num_key_value_heads / config.num_attention_heads
    width = next(policy.model.parameters()).element_size()
    state = 2 * config.num_hidden_layers * config.hidden_size * heads * width  # keys and values of one token
    reads = max(len(t) for _, t in sequences) * policy.size * width
    reads += state * sum(len(t) ** 2 / 2 for _, t in sequences)
    trained = any(p.requires_grad for p in policy.model.get_input_embeddings().parameters())
    return {
        "drawn_tokens": float(tokens),
        "rollout_flops": forward,
        "rollout_bytes": reads / 2,  # a copy moves every byte twice, a read once
        "update_flops": (3 if trained else 2) * forward,  # adapters ask for no gradient of the weights below them
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
    if shape.model:
        from transformers import AutoModelForCausalLM, Qwen2Config

        torch.manual_seed(0)
        small = policy.model.config
        settings = {
            "vocab_size": small.vocab_size,
            "max_position_embeddings": 1024,
            "tie_word_embeddings": True,
            "bos_token_id": None,
            "eos_token_id": small.eos_token_id,
            "pad_token_id": small.pad_token_id,
        }
        config = Qwen2Config(**settings | shape.model)
        with torch.device(shape.device):
            model = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
        policy.model = model.to(getattr(torch, shape.dtype))
        # every token has a text, so that samples differ in theirs and get different rewards
        policy.tokenizer.add_tokens([f"<{i}>" for i in range(len(policy.tokenizer), config.vocab_size)])
    policy.save(folder)


def machine_speed(device: str) -> tuple[float, float]:
    """Floating-point operations and copied bytes (read plus written) per second."""
    side, numbers, dtype = (8192, 2**29, torch.bfloat16) if device == "cuda" else (2048, 64 * 2**20, torch.float32)
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    source = torch.randn(numbers, device=device)
    target = torch.empty_like(source)

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def product() -> None:
        _ = a @ b
        wait()

    def copy() -> None:
        target.copy_(source)
        wait()

    return 2 * side**3 / best(product), 2 * numbers * 4 / best(copy)


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
                share, rate = floor["update"] / one["update_s"], one["drawn_tokens"] / one["step_s"]
                cells = f"{sum(floor.values()):9.3f}{floor['rollout']:9.3f}{'':9}{floor['update']:9.3f}"
                lines.append(f"{'  floor':28}{cells}  update at {share:.0%} of a product's speed, {rate:,.0f} tokens/s")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
