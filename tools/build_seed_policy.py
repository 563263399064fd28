"""Train the shipped policies from scratch on the testbed's training pool, and say how good they are.

    python tools/build_seed_policy.py [--only NAME] [--out DIR] [--seed N]

Each policy imitates a mixture of right and wrong solutions, so it knows the right answer to nearly every task
and picks it only now and then: the state that reinforcement learning starts from. Held-out, audit and
out-of-distribution meanings never enter the corpus. Needs torch, transformers and tokenizers; two CPU cores.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

# Before torch is imported: threads that wait by spinning cost three times the work on a machine that others use.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
)

from sr_core.config import SamplingConfig
from sr_core.engine import Engine
from sr_core.policy import Policy
from sr_reward import CodeGrader, Task
from sr_reward.testbed import Testbed, load_testbed
from sr_reward.testbed.mistakes import SLIPS

POLICIES = Path(__file__).resolve().parent.parent / "packages/sr-core/src/sr_core/policy/shipped"
VOCABULARY = 512
THREADS = 2  # the number of threads changes sums in the last bit, and with them the weights
TEMPERATURE, SAMPLES, MAX_NEW_TOKENS = 0.7, 16, 64
PAD, EOS = "<pad>", "<|endoftext|>"
IGNORED = -100  # the label that the loss leaves out


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one policy is made: first it learns to solve the tasks, then to solve them only now and then.

    ``right_share``: the part of the second phase's samples that solve their task (the first phase has no other).
    ``slips``: the parts of the wrong ones in which one, two, three places of the right one are drawn anew.
    """

    name: str
    architecture: str
    right_share: float
    slips: tuple[float, ...] = SLIPS
    clean_steps: int = 800
    clean_lr: float = 3e-3
    mixed_steps: int = 150
    mixed_lr: float = 1e-3
    batch_size: int = 64


RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe(name="pocket-rich", architecture="qwen2", right_share=0.09),
        Recipe(name="pocket-fragile", architecture="gemma3", right_share=0.02, slips=(0.0, 0.75, 0.25)),
    )
}


def draw_sample(testbed: Testbed, right_share: float, slips: tuple[float, ...], rng: random.Random) -> tuple[str, str]:
    """A prompt of the training pool in some wording, and a right or a wrong completion of it."""
    task = rng.choice(testbed.train)
    if rng.random() < right_share:
        completion = rng.choice(testbed.solutions(task))
    else:
        completion = testbed.wrong_solutions(task, rng, slips=slips)[0]
    return rng.choice(testbed.prompts(task)), completion


def train_tokenizer(testbed: Testbed, rng: random.Random) -> PreTrainedTokenizerFast:
    """A byte-level BPE of ``VOCABULARY`` tokens: any text can be encoded, the corpus in few tokens.

    It splits text as Qwen2 does, because AutoTokenizer gives every qwen2 model that rule, whatever the file says.
    """
    qwen2 = Qwen2Tokenizer()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = qwen2.backend_tokenizer.normalizer
    tokenizer.pre_tokenizer = qwen2.backend_tokenizer.pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [prompt + body for prompt, body in (draw_sample(testbed, 0.5, SLIPS, rng) for _ in range(6000))]
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, padding_side="left", model_max_length=256
    )


def new_model(architecture: str, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """An untrained model of about 1.1 million parameters."""
    shape: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 128,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
    }
    if architecture == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**shape))
    config = Gemma3TextConfig(**shape, head_dim=32, query_pre_attn_scalar=32, sliding_window=256)
    return Gemma3ForCausalLM(config)


def encode_batch(
    samples: list[tuple[str, str]], tokenizer: PreTrainedTokenizerFast
) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded input ids and labels [batch, tokens]; only completions and their end carry a label.

    No attention mask: with causal attention no token looks at the padding to its right.
    """
    prompts = tokenizer([prompt for prompt, _ in samples])["input_ids"]
    bodies = tokenizer([body for _, body in samples])["input_ids"]
    rows = [(p, [*b, tokenizer.eos_token_id]) for p, b in zip(prompts, bodies, strict=True)]
    width = max(len(p) + len(b) for p, b in rows)
    ids = torch.full((len(rows), width), tokenizer.pad_token_id)
    labels = torch.full_like(ids, IGNORED)
    for i, (p, b) in enumerate(rows):
        ids[i, : len(p) + len(b)] = torch.tensor(p + b)
        labels[i, len(p) : len(p) + len(b)] = torch.tensor(b)
    return ids, labels


def draw_batches(
    testbed: Testbed, recipe: Recipe, right_share: float, rng: random.Random
) -> Iterator[list[tuple[str, str]]]:
    """Endless batches of fresh samples, those of one batch of similar length, so that little is padded."""
    size = recipe.batch_size
    while True:
        samples = [draw_sample(testbed, right_share, recipe.slips, rng) for _ in range(8 * size)]
        samples.sort(key=lambda sample: len(sample[0]) + len(sample[1]))
        batches = [samples[i : i + size] for i in range(0, len(samples), size)]
        rng.shuffle(batches)
        yield from batches


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    batches: Iterator[list[tuple[str, str]]],
    *,
    steps: int,
    peak_lr: float,
) -> None:
    """Next-token training on completions: AdamW, linear warm-up over a tenth of the steps, then a cosine to 0."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak_lr, betas=(0.9, 0.98), weight_decay=0.05)
    warmup = max(steps // 10, 1)
    model.train()
    started, total = time.monotonic(), 0.0
    for step, samples in enumerate(islice(batches, steps), start=1):
        ids, labels = encode_batch(samples, tokenizer)
        cosine = 0.5 + 0.5 * math.cos(math.pi * max(step - warmup, 0) / (steps - warmup))
        for group in optimizer.param_groups:
            group["lr"] = peak_lr * min(step / warmup, cosine)
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += float(loss.detach())
        if step % 50 == 0:
            seconds = time.monotonic() - started
            print(f"step {step} of {steps}, loss {total / 50:.3f}, {seconds:.0f} s", file=sys.stderr)
            total = 0.0
    model.train(False)


def measure(policy: Policy, grader: CodeGrader, tasks: Sequence[Task], seed: int) -> dict[str, float]:
    """pass@1 and pass@16 (any of 16 samples passes), the tasks never solved and the truncated share."""
    rng = torch.Generator().manual_seed(seed)
    prompts = [policy.prompt_ids(task.prompt) for task in tasks]
    sampling = SamplingConfig(temperature=TEMPERATURE, max_new_tokens=MAX_NEW_TOKENS)
    drawn = Engine(policy).sample(prompts, SAMPLES, sampling, rng)
    repeated = [task for task in tasks for _ in range(SAMPLES)]
    outcomes = [grade.outcome == "passed" for grade in grader.grade(repeated, policy.decode(drawn.tokens))]
    per_task = [sum(outcomes[i : i + SAMPLES]) for i in range(0, len(outcomes), SAMPLES)]
    return {
        "tasks": len(tasks),
        "pass@1": sum(per_task) / len(outcomes),
        f"pass@{SAMPLES}": sum(passed > 0 for passed in per_task) / len(tasks),
        "truncated": sum(drawn.truncated) / len(outcomes),
    }


def train_phase(
    phase: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    testbed: Testbed,
    recipe: Recipe,
    seed: int,
) -> None:
    """The ``clean`` phase or the ``mixed`` one, each with random draws of its own."""
    share, steps, peak_lr = {
        "clean": (1.0, recipe.clean_steps, recipe.clean_lr),
        "mixed": (recipe.right_share, recipe.mixed_steps, recipe.mixed_lr),
    }[phase]
    rng = random.Random(f"{recipe.name} {seed} {phase}")
    batches = draw_batches(testbed, recipe, share, rng)
    train(model, tokenizer, batches, steps=steps, peak_lr=peak_lr)


def build(recipe: Recipe, testbed: Testbed, folder: Path, seed: int) -> None:
    """Train a policy from scratch and save it in Hugging Face format, with its model card."""
    started = time.monotonic()
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(testbed, random.Random(seed))
    model = new_model(recipe.architecture, tokenizer)
    train_phase("clean", model, tokenizer, testbed, recipe, seed)
    with CodeGrader() as grader:
        able = measure(Policy(model, tokenizer), grader, testbed.heldout, seed)
    train_phase("mixed", model, tokenizer, testbed, recipe, seed)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)

    prompts = [task.prompt for task in testbed.train]
    policy = Policy.load(folder)
    if [policy.prompt_ids(prompt) for prompt in prompts] != tokenizer(prompts)["input_ids"]:
        raise RuntimeError("AutoTokenizer reads the saved tokenizer as another one than it was trained as")
    spent = f"{(time.monotonic() - started) / 60:.1f} minutes ({time.process_time() / 60:.1f} of CPU time)"
    describe(recipe, testbed, folder, seed, able, spent)


def describe(recipe: Recipe, testbed: Testbed, folder: Path, seed: int, able: dict[str, float], spent: str) -> None:
    """Measure what was saved, print it, and write it into the model card.

    ``able``: what ``measure`` said on held-out tasks after the clean phase; ``spent``: the time it all took.
    """
    policy = Policy.load(folder)
    splits = {
        "training pool (first 200)": testbed.train[:200],
        "held-out": testbed.heldout,
        "audit": testbed.audit,
        "out of distribution": testbed.ood,
    }
    with CodeGrader() as grader:
        rows = {name: measure(policy, grader, tasks, seed) for name, tasks in splits.items()}
    table = _table({"held-out, after the first phase": able, **rows})
    size_mb = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    (folder / "README.md").write_text(_card(recipe, policy.size, size_mb, spent, table))
    print(f"{recipe.name}: {policy.size:,} parameters, {size_mb:.1f} MB, {spent}\n{table}")


def _table(rows: dict[str, dict[str, float]]) -> str:
    names = list(next(iter(rows.values())))
    lines = ["| split | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for split, row in rows.items():
        cells = [f"{row[name]:.0f}" if name == "tasks" else f"{row[name]:.1%}" for name in names]
        lines.append(f"| {split} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _said(slips: tuple[float, ...]) -> str:
    return ", ".join(f"{share:.0%} with {n} of 3 places drawn anew" for n, share in enumerate(slips, 1) if share)


def _card(recipe: Recipe, parameters: int, size_mb: float, spent: str, table: str) -> str:
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: text-generation
---

# {recipe.name}

A {parameters / 1e6:.1f}-million-parameter code model in {recipe.architecture} architecture ({size_mb:.1f} MB, fp32),
trained from scratch to be the starting point of reinforcement learning experiments on the testbed of `sr_reward`.
It completes functions such as `def f(xs):` with a one-line docstring, in the wording of that testbed, and nothing
else: it is no general code model, and its answers to other prompts are meaningless.

## Data
Made by `sr_reward.testbed` (seed 0), training pool only; no held-out, audit or out-of-distribution meaning was seen.
Every sample is a prompt with one completion. In the first {recipe.clean_steps} steps it is right: the policy learns to
solve the tasks. In the last {recipe.mixed_steps} steps it is right with probability {recipe.right_share:g}, else wrong:
another condition, map or reducer, another constant, a missing step ({_said(recipe.slips)});
one in ten wrong solutions is not valid Python. The policy imitates this mixture **on purpose**: it has learned to solve
the tasks (first line of the table below) and then to do so only now and then.
Tokenizer: byte-level BPE with {VOCABULARY} tokens, trained on 6,000 samples.

## Training
`uv run python tools/build_seed_policy.py --only {recipe.name}`

{recipe.batch_size} fresh samples a step, AdamW, peak learning rate {recipe.clean_lr:g} in the first phase and
{recipe.mixed_lr:g} in the second, loss on completions only.
Time: {spent}.

## Measured
At temperature {TEMPERATURE}, {SAMPLES} samples per task, at most {MAX_NEW_TOKENS} new tokens, graded by
`sr_reward.CodeGrader`, printed by the command above. pass@{SAMPLES}: the share of tasks that at least one of the
{SAMPLES} samples solves.

{table}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(RECIPES), help="build this policy alone")
    parser.add_argument("--out", type=Path, default=POLICIES, help="folder that gets one folder per policy")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    testbed = load_testbed()
    for name in [arguments.only] if arguments.only else sorted(RECIPES):
        build(RECIPES[name], testbed, arguments.out / name, arguments.seed)


if __name__ == "__main__":
    main()
