"""Record real training runs, so that every rule that watches runs can be judged on the same ones.

Each run is one campaign of the embedded testbed, without any control. After every step 32 samples of each held-out task
are drawn (what a rule asks for is later dealt out from them, each sample once), and 4 of each audit task, which no rule
sees. A run that has been dead for a while is cut short. Resumable: what is recorded is not recorded again.

    uv run python benchmarks/traces/record.py [--seeds 0-7] [--pool 32] [--out DIR] [--workers 2]
    uv run python benchmarks/traces/record.py --out DIR --pack benchmarks/traces/data/traces.json.gz
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import gzip
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sr_cli.assemble import make_grader, make_tasks
from sr_cli.config import load_config
from sr_core import Policy, Trainer, run_campaign
from sr_core.batch import Batch, Rollout
from sr_core.evaluation.grading import grade_all
from sr_core.optim.update import UpdateResult
from sr_core.protocols import Task
from sr_core.seeds import torch_rng_for
from sr_core.unguarded import Unguarded

POOL = 32  # samples per held-out task and step; for signals of training alone fewer do, which is several times faster
AUDIT_SAMPLES = 4  # per audit task and step
DEAD = 0.02  # held-out pass@1 below which a policy is dead ...
DEAD_STEPS = 4  # ... and after how many such steps the recording ends
KNOWN = 2  # right answers per held-out task whose likelihood is followed
SIGNALS = (
    *("train_reward", "entropy", "grad_norm", "length", "truncated", "zero_std_groups", "unique_share", "loss"),
    "step_kl",
)

# name -> preset and what differs from it; where nothing is said, 20 steps of 8 prompts x 16
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "rich-reinforce-3e-3": ("testbed", {"optim.lr": 3e-3}),
    "rich-reinforce-1e-3": ("testbed", {"optim.lr": 1e-3, "campaign.steps": 30}),
    "rich-reinforce-3e-4": ("testbed", {"optim.lr": 3e-4}),
    "fragile-reinforce-1e-3": ("testbed-fragile", {"optim.lr": 1e-3, "campaign.steps": 30}),
    "rich-grpo-2e-3": ("testbed", {"optim.lr": 2e-3, "algorithm.name": "grpo"}),
    "fragile-reinforce-3e-3": ("testbed-fragile", {"optim.lr": 3e-3}),
    "rich-hardly-moving": ("testbed", {"optim.lr": 1e-5}),
    "rich-reinforce-2e-3": ("testbed", {"optim.lr": 2e-3}),
    "fragile-grpo-1e-3": ("testbed-fragile", {"optim.lr": 1e-3, "algorithm.name": "grpo"}),
    "rich-wapo-2e-3": ("testbed", {"optim.lr": 2e-3, "algorithm.name": "wapo"}),
    "rich-kl-1e-3": ("testbed", {"optim.lr": 1e-3, "penalty.name": "kl", "penalty.coefficient": 0.05}),
    "fragile-rloo-3e-4": ("testbed-fragile", {"optim.lr": 3e-4, "algorithm.name": "rloo"}),
}
USUAL = {"sampling.prompts": 8, "optim.warmup_steps": 10, "campaign.steps": 20, "tasks.audit": 100}


class Observed(Trainer):
    """A trainer that also notes what it does not report: the shape of its gradients, and programs that do not parse."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.noted: dict[str, float | None] = {}
        self.previous: Tensor | None = None

    def grade(self, tasks: Sequence[Task], rollout: Rollout) -> Batch:
        texts = self.policy.decode(rollout.tokens)
        prompts = [task.prompt for task in tasks for _ in range(rollout.group_size)]
        self.noted["malformed"] = sum(not parses(p + t) for p, t in zip(prompts, texts, strict=True)) / len(texts)
        return super().grade(tasks, rollout)

    def update(self, graded: Batch) -> UpdateResult:
        hook = self.optimizer.register_step_pre_hook(lambda *_: self.note_gradient())
        result = super().update(graded)
        hook.remove()
        if result.finite and result.grad_norm:
            # as it was before it was clipped
            self.noted["head_grad_norm"] = (self.noted["head_grad_norm"] or 0.0) * max(
                1.0, result.grad_norm / self.config.optim.max_grad_norm
            )
        return result

    def note_gradient(self) -> None:
        head = self.policy.model.get_output_embeddings().weight
        gradients = [p.grad.flatten() for p in self.policy.model.parameters() if p.grad is not None]
        whole = torch.cat(gradients)
        self.noted["head_grad_norm"] = float(head.grad.norm()) if head.grad is not None else None
        if self.previous is not None and bool(whole.any()):
            self.noted["grad_cosine"] = float(torch.nn.functional.cosine_similarity(whole, self.previous, dim=0))
        self.previous = whole


def parses(program: str) -> bool:
    """Whether it is Python at all."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(program)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return True


class Recorder:
    """Called with each row of a campaign: measures the policy as it is, and keeps what a trace needs."""

    def __init__(self, trainer: Observed, heldout: Sequence[Task], audit: Sequence[Task], pool: int) -> None:
        self.trainer, self.heldout, self.audit, self.pool = trainer, heldout, audit, pool
        self.rows: list[dict[str, Any]] = []
        self.known: tuple[list[list[int]], list[list[int]]] = ([], [])

    def __call__(self, row: dict[str, Any]) -> None:
        step = row["step"]
        rollout, passed = self.measure(self.heldout, self.pool, step, "pool")
        if step == 0:
            self.known = right_answers(rollout, passed)
        audited = self.measure(self.audit, AUDIT_SAMPLES, step, "audit")[1]
        signals = {name: row[name] for name in SIGNALS} | {"kl": row["kl"]} | self.trainer.noted
        signals["correct_logprob"] = self.likelihood()
        self.rows.append(
            {
                "step": step,
                "heldout": [f"{sum(bit << j for j, bit in enumerate(task)):x}" for task in passed],
                "audit": [sum(task) for task in audited],
                "signals": {name: None if value is None else round(value, 5) for name, value in signals.items()},
            }
        )
        self.trainer.noted = {}

    def measure(self, tasks: Sequence[Task], samples: int, step: int, purpose: str) -> tuple[Rollout, list[list[bool]]]:
        """``samples`` per task, and which of them passed."""
        trainer, sampling = self.trainer, self.trainer.config.sampling
        prompts = [trainer.policy.prompt_ids(task.prompt) for task in tasks]
        rng = torch_rng_for(trainer.config.seed, 0, step, purpose)
        rollout = trainer.engine.sample(prompts, samples, sampling, rng)
        repeated = [task for task in tasks for _ in range(samples)]
        grades = grade_all(trainer.grader, repeated, trainer.policy.decode(rollout.tokens), max_infra_share=0.0)
        passed = [grade.reward == 1.0 for grade in grades]
        return rollout, [passed[i : i + samples] for i in range(0, len(passed), samples)]

    def likelihood(self) -> float | None:
        """Mean log-probability per token of the right answers known from the start, in nats."""
        prompts, tokens = self.known
        if not tokens:
            return None
        with torch.no_grad():
            temperature = self.trainer.config.sampling.temperature
            scores = self.trainer.engine.score(prompts, tokens, temperature=temperature)
        return float((scores.logprobs_NT * scores.mask_NT).sum() / scores.mask_NT.sum())

    @property
    def dead(self) -> bool:
        """Whether the last steps had next to nothing right."""
        if len(self.rows) < DEAD_STEPS:
            return False
        right = [sum(int(task, 16).bit_count() for task in row["heldout"]) for row in self.rows[-DEAD_STEPS:]]
        return max(right) < DEAD * self.pool * len(self.heldout)


def right_answers(rollout: Rollout, passed: list[list[bool]]) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts and tokens of the first ``KNOWN`` distinct right answers of each task."""
    prompts, tokens = [], []
    for place, task in enumerate(passed):
        right = dict.fromkeys(
            tuple(rollout.tokens[place * rollout.group_size + j]) for j, bit in enumerate(task) if bit
        )
        for answer in list(right)[:KNOWN]:
            prompts.append(rollout.prompts[place])
            tokens.append(list(answer))
    return prompts, tokens


class _Over(Exception):
    """The run is dead: nothing more to record."""


def record(name: str, seed: int, folder: Path, pool: int) -> None:
    """One run, written whole or not at all."""
    torch.set_num_threads(1)
    preset, changes = RUNS[name]
    settings = USUAL | changes | {"evaluate.audit_samples": 0, "sandbox.workers": 1}
    config = load_config(None, preset, [f"{key}={value}" for key, value in settings.items()])
    tasks = make_tasks(config.tasks, seed)(0)
    with make_grader(config) as grader:
        trainer = Observed(Policy.load(config.train.policy), grader, config.training(seed))
        recorder = Recorder(trainer, tasks.heldout, tasks.audit, pool)

        def watch(row: dict[str, Any]) -> None:
            recorder(row)
            if recorder.dead:
                raise _Over

        with contextlib.suppress(_Over):
            run_campaign(trainer, tasks, Unguarded(samples=0), on_row=watch)
    trace = {
        "name": f"{name}-{seed}",
        "seed": seed,
        "config": {
            "policy": config.train.policy.path,
            "algorithm": config.train.algorithm.name,
            "lr": config.train.optim.lr,
            "warmup_steps": config.train.optim.warmup_steps,
            "prompts": config.train.sampling.prompts,
            "group_size": config.train.sampling.group_size,
            "steps": config.train.campaign.steps,
            "penalty": config.train.penalty.name,
        },
        "train_samples": config.train.sampling.prompts * config.train.sampling.group_size,
        "tasks": len(tasks.heldout),
        "pool": pool,
        "audit_samples": AUDIT_SAMPLES,
        "rows": recorder.rows,
    }
    target = folder / f"{trace['name']}.json.gz"
    unfinished = target.with_suffix(".part")
    unfinished.write_bytes(gzip.compress(json.dumps(trace, separators=(",", ":")).encode()))
    unfinished.rename(target)


def pack(folder: Path, target: Path) -> None:
    """All traces of ``folder`` as one compressed list, ordered by name; the same traces give the same bytes."""
    traces = [json.loads(gzip.decompress(file.read_bytes())) for file in sorted(folder.glob("*.json.gz"))]
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(gzip.compress(json.dumps(traces, separators=(",", ":")).encode(), mtime=0))


def missing(seeds: str, folder: Path) -> Iterator[tuple[str, int]]:
    """The runs that are not recorded yet, seed by seed."""
    first, _, last = seeds.partition("-")
    for seed in range(int(first), int(last or first) + 1):
        for name in RUNS:
            if not (folder / f"{name}-{seed}.json.gz").exists():
                yield name, seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="0-7", help="first-last")
    parser.add_argument("--pool", type=int, default=POOL, help="samples per held-out task and step (default 32)")
    parser.add_argument("--out", type=Path, default=Path("runs/traces"))
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="runs at a time, one thread each")
    parser.add_argument("--one", nargs=2, metavar=("NAME", "SEED"), help="record this run and nothing else")
    parser.add_argument(
        "--pack", type=Path, metavar="FILE", help="put what is recorded into one file, and record nothing"
    )
    options = parser.parse_args()
    if options.pack:
        pack(options.out, options.pack)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    if options.one:
        record(options.one[0], int(options.one[1]), options.out, options.pool)
        return

    def launch(run: tuple[str, int]) -> None:
        name, seed = run
        command = [
            sys.executable,
            __file__,
            "--out",
            str(options.out),
            "--pool",
            str(options.pool),
            "--one",
            name,
            str(seed),
        ]
        done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
        print(f"{name}, seed {seed}: {'recorded' if not done.returncode else done.stderr[-2000:]}", file=sys.stderr)

    with ThreadPoolExecutor(options.workers) as pool:
        list(pool.map(launch, missing(options.seeds, options.out)))


if __name__ == "__main__":
    main()
