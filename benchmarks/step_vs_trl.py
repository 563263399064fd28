"""One training step, rollout + grading + update, beside TRL's GRPOTrainer: seconds, phases, floor, peak memory.

    uv run --group bench python benchmarks/step_vs_trl.py [--json] [--save] [--steps N] [--rounds N] [--shape NAME]

Both sides get the same policy, prompts, sampling, rewards, algorithm (GRPO, one update per batch) and threads. Every
side runs in a process of its own, in turns, so that its peak memory is its own and other load hits all alike; the
median step of all rounds counts. The floor of a phase is the larger of its floating-point operations over what a
square product reaches (fp32, 2048 wide; on a GPU bfloat16, 8192) and of its bytes over what a copy reaches, both
measured in the same run. Where torch sees a GPU the shapes of Qwen2.5 run there, with random weights in bfloat16.
The shape smollm2_135m has the real weights where the group ``models`` is installed, else random ones of that size; its
third side is ours in bfloat16, on CPUs that have it. An update is timed in three parts: backward passes, the
optimizer's step, the rest (forward passes, log-probabilities, loss, what is logged). ``--save`` replaces the measured
shapes in the results.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from stopwatch import Parts, machine_speed, now

from sr_core.config import GrpoConfig, OptimConfig, PolicyConfig, SamplingConfig, TrainConfig
from sr_core.errors import PolicyError
from sr_core.policy import Policy
from sr_core.trainer import Trainer
from sr_reward import CodeGrader, Task
from sr_reward.testbed import load_testbed

THREADS = 2
TEMPERATURE = 0.7
PHASES = ("step_s", "rollout_s", "grade_s", "update_s", "forward_s", "backward_s", "optimizer_s")
RESULTS = Path(__file__).parent / "results" / "step_vs_trl.json"
SIDES = ("ours", "trl", "ours_bfloat16")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """``prompts`` x ``samples`` sequences of at most ``new_tokens``; TRL is to take ``required`` times our time.

    ``model``: of a random policy, what its configuration has beside the shipped one's; empty takes the shipped one.
    ``known``: a name of ``policy.path`` whose weights are taken in place of random ones where they are installed.
    """

    prompts: int
    samples: int
    new_tokens: int
    required: float
    aimed: float
    model: dict[str, Any] = field(default_factory=dict)
    known: str = ""
    warm_up: int = 2  # steps that are not counted
    prompt_tokens: int = 0  # testbed prompts are joined up to this length; 0 leaves them alone
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    lora_rank: int = 0
    trl_batch: int = 0  # sequences that TRL takes at once, the rest by accumulation; 0: all
    sides: tuple[str, ...] = ("ours", "trl")

    @property
    def on_device(self) -> PolicyConfig:
        return PolicyConfig(device=self.device, dtype=self.dtype, lora_rank=self.lora_rank, prompt="completion")


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
    "smollm2_135m": Shape(
        prompts=8,
        samples=4,
        new_tokens=32,
        required=3,
        aimed=3,
        model=wide(576, 1536, 30, 9, 3, vocab_size=49_152),
        known="smollm2-135m",
        warm_up=1,  # its steps are long
        sides=SIDES,
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
    """Passes about half of all texts, so that rewards differ where a policy solves next to nothing.

    ``inner``: a grader that judges them first, for the time that it takes.
    """

    def __init__(self, inner: CodeGrader | None = None) -> None:
        self.inner = inner

    def grade(self, tasks: Sequence[Task], completions: Sequence[str]) -> list[Verdict]:
        if self.inner is not None:
            self.inner.grade(tasks, completions)
        return [Verdict(float(zlib.crc32(text.encode()) & 1)) for text in completions]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.relative_to(RESULTS.parents[2])}")
    parser.add_argument("--steps", type=int, default=10, help="counted steps of a round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=THREADS, help="of every side")
    parser.add_argument("--shape", choices=SHAPES, action="append", help="default: all of the GPU, or of the CPU")
    parser.add_argument("--side", choices=SIDES, action="append", help="default: all")
    parser.add_argument("--one", nargs=3, metavar=("SIDE", "SHAPE", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
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
    load = os.getloadavg()[0]
    shapes = {name: compare(name, speed, options) for name in names}
    where = (
        f"{torch.cuda.get_device_name()}" if device == "cuda" else f"{platform.machine()}, {options.threads} threads"
    )
    table = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{where}, torch {torch.__version__}",
        "gflops": speed[0] / 1e9,
        "copy_gb_s": speed[1] / 1e9,
        "load_average": [load, os.getloadavg()[0]],  # before and after
        "shapes": shapes,
    }
    if options.save:
        keep(table)
    print(json.dumps(table) if options.json else as_text(table))


def keep(table: dict[str, Any]) -> None:
    """Write the measured shapes into the results, each with where and when; the others stay as they are."""
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"shapes": {}}
    about = {key: value for key, value in table.items() if key != "shapes"}
    kept["shapes"] |= {name: shape | about for name, shape in table["shapes"].items()}
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")


def compare(name: str, speed: tuple[float, float], options: argparse.Namespace) -> dict[str, Any]:
    """All sides of one shape, in turns."""
    rounds: dict[str, list[dict[str, Any]]] = {side: [] for side in options.side or sides_here(SHAPES[name])}
    with tempfile.TemporaryDirectory() as folder:
        weights = prepare(SHAPES[name], Path(folder))
        for _ in range(options.rounds):
            for side, results in rounds.items():
                command = [sys.executable, __file__, "--one", side, name, folder, "--steps", str(options.steps)]
                command += ["--threads", str(options.threads)]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                results.append(json.loads(done.stdout.splitlines()[-1]))
    sides = {side: summary(results, speed) for side, results in rounds.items()}
    return headline(sides) | {
        "weights": weights,
        "required": SHAPES[name].required,
        "aimed": SHAPES[name].aimed,
        "sides": sides,
    }


def sides_here(shape: Shape) -> list[str]:
    """The shape's sides but for bfloat16 on a CPU that has no instructions for it (AVX512-BF16, AMX)."""
    narrow = shape.device == "cuda" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return [side for side in shape.sides if narrow or side != "ours_bfloat16"]


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
    if floors:
        floors["update"] = floors["forward"] + floors["backward"]
    return {
        **{key: median(key) for key in phases},
        "floor_s": floors,
        "drawn_tokens": median("drawn_tokens"),
        "peak_mb": max(one["peak_mb"] for one in rounds),
    }


def measure(side: str, shape: Shape, folder: Path, steps: int) -> dict[str, Any]:
    """Per-step times of one side, in this process, and the most memory that it held (on a GPU, of the GPU's)."""
    if side == "ours_bfloat16":
        shape = replace(shape, dtype="bfloat16")
    policy = Policy.load(replace(shape.on_device, path=str(folder)))
    tasks = make_tasks(shape, policy)
    grader: Any = CodeGrader(workers=THREADS) if shape.known or not shape.model else None
    grader = CheckSum(grader) if shape.model else grader
    grader.grade(tasks[:1], ["    pass\n"])  # workers start before the clock does
    if side == "trl" and shape.device == "cuda":
        policy.model.to("cpu")  # TRL loads its own
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    run = train_trl if side == "trl" else train_ours
    parts = Parts()
    with parts.watched(shape.device):
        rows = run(shape, policy, folder, tasks, grader, (steps + shape.warm_up, parts))
    peak = torch.cuda.max_memory_allocated() / 2**20 if shape.device == "cuda" else _resident_mb()
    return {"steps": rows[shape.warm_up :], "peak_mb": peak}


def _resident_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def train_ours(
    shape: Shape, policy: Policy, folder: Path, tasks: list[Task], grader: Any, wanted: tuple[int, Parts]
) -> list[dict[str, float]]:
    del folder
    steps, parts = wanted
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
        parts.clear()
        times = [now(shape.device)]
        rollout = trainer.rollout(batch, campaign=0, step=step)
        times.append(now(shape.device))
        graded = trainer.grade(batch, rollout)
        times.append(now(shape.device))
        trainer.update(graded)
        times.append(now(shape.device))
        sequences = [(rollout.prompts[i // shape.samples], t) for i, t in enumerate(rollout.tokens)]
        rows.append(row(times, parts) | floors(policy, sequences, shape.samples))
    return rows


def train_trl(
    shape: Shape, policy: Policy, folder: Path, tasks: list[Task], grader: Any, wanted: tuple[int, Parts]
) -> list[dict[str, float]]:
    """GRPOTrainer with transformers' generation, as it comes; the phases part where the rewards are asked for."""
    del policy
    steps, parts = wanted
    import transformers
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    by_id = {task.task_id: task for task in tasks}
    rows: list[dict[str, float]] = []
    times: list[float] = []
    drawn: list[int] = []

    def reward(completions: list[str], task_id: list[str], completion_ids: list[list[int]], **_: Any) -> list[float]:
        times.append(now(shape.device))
        grades = grader.grade([by_id[name] for name in task_id], completions)
        times.append(now(shape.device))
        drawn.append(sum(map(len, completion_ids)))
        return [grade.reward for grade in grades]

    class Clock(transformers.TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            parts.clear()
            times[:] = [now(shape.device)]

        def on_step_end(self, *_: Any, **__: Any) -> None:
            rows.append(row([*times, now(shape.device)], parts) | {"drawn_tokens": float(drawn[-1])})

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


def row(times: list[float], parts: Parts) -> dict[str, float]:
    start, sampled, graded, end = times
    return {
        "rollout_s": sampled - start,
        "grade_s": graded - sampled,
        "update_s": end - graded,
        "forward_s": end - graded - parts.backward_s - parts.optimizer_s,
        "backward_s": parts.backward_s,
        "optimizer_s": parts.optimizer_s,
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
        "forward_flops": forward,
        "backward_flops": (2 if trained else 1) * forward,  # adapters ask for no gradient of the weights below them
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


def prepare(shape: Shape, folder: Path) -> str:
    """Save the policy that all sides load, and say whose weights it has."""
    if shape.known:
        try:
            Policy.load(PolicyConfig(path=shape.known, prompt="completion")).save(folder)
        except PolicyError as error:
            print(f"random weights in place of {shape.known}: {error}", file=sys.stderr)
        else:
            return shape.known
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
    return "random" if shape.model else "pocket-rich"


def as_text(table: dict[str, Any]) -> str:
    lines = [f"{table['machine']}: {table['gflops']:.0f} GFLOP/s, copy {table['copy_gb_s']:.1f} GB/s"]
    for name, shape in table["shapes"].items():
        lines += ["", f"{name} (required {shape['required']:g}x, aimed at {shape['aimed']:g}x)"]
        heads = "".join(f"{phase.removesuffix('_s'):>10}" for phase in PHASES)
        lines.append(f"{'':28}{heads}{'peak MB':>10}{'tokens':>8}  TRL/this")
        trl = shape["sides"].get("trl")
        for side, one in shape["sides"].items():
            times = "".join(f"{one[key]:10.3f}" for key in PHASES)
            ratio = f"{trl['step_s'] / one['step_s']:10.2f}" if trl else ""
            lines.append(f"{side:28}{times}{one['peak_mb']:10.0f}{one['drawn_tokens']:8.0f}{ratio}")
            if one["floor_s"]:
                floor = one["floor_s"]
                share, rate = floor["update"] / one["update_s"], one["drawn_tokens"] / one["step_s"]
                cells = f"{floor['rollout'] + floor['update']:10.3f}{floor['rollout']:10.3f}{'':10}"
                cells += "".join(f"{floor[key]:10.3f}" for key in ("update", "forward", "backward"))
                lines.append(f"{'  floor':28}{cells}  update at {share:.0%} of a product's speed, {rate:,.0f} tokens/s")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
