"""A short supervised start: a policy imitates reference solutions, so that a raw model has something to reinforce.

Maximum likelihood of the answers, given the prompts that training uses:

    loss = - sum over answers and their tokens of log p(token | prompt, tokens before) / tokens of the step's answers

The end of an answer is one of its tokens; prompts are not learned. A few hundred solutions are enough for a model that
has seen code. More of them teach the tasks themselves, which leaves less for a reward to do, and narrow what the policy
tries.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from sr_core.config import PolicyConfig
from sr_core.engine import Engine
from sr_core.errors import ConfigError, NonFiniteError
from sr_core.optim.gradients import Gradients
from sr_core.optim.master_weights import MasterWeights
from sr_core.policy import Policy
from sr_core.policy.prompts import continuation_ids
from sr_core.policy.sources import KNOWN
from sr_core.protocols import Prompter
from sr_core.runs.atomic_io import reporting, write_folder
from sr_core.runs.disk import require_room
from sr_core.runs.run_dir import check_new
from sr_core.sections import plain, require
from sr_core.seeds import rng_for

FENCE = "```"

__all__ = ["Example", "SolvedTask", "WarmStart", "describe", "examples_of", "start_policy", "warm_start"]


class SolvedTask(Protocol):
    """A task that may have a ``reference``: a whole program that solves it, empty where there is none.

    ``prompt_is_code``: an answer may continue the prompt, with which the reference then begins.
    """

    @property
    def task_id(self) -> str: ...
    @property
    def prompt(self) -> str: ...
    @property
    def reference(self) -> str: ...
    @property
    def prompt_is_code(self) -> bool: ...


@dataclass(frozen=True, kw_only=True)
class Example:
    """Token ids of a prompt and of the answer to be learned, which ends with the policy's end-of-sequence token."""

    prompt: list[int]
    answer: list[int]

    @property
    def tokens(self) -> int:
        """Tokens of both."""
        return len(self.prompt) + len(self.answer)


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """How long and how fast: ``examples`` in all, ``batch`` at a time, AdamW at ``lr`` without decay or warm-up.

    Examples come epoch after epoch, each in an order of its own. The defaults took SmolLM2-135M from 3% to about a
    fifth of the testbed's held-out tasks.
    """

    examples: int = 224
    batch: int = 16
    lr: float = 1e-4
    max_grad_norm: float = 1.0
    micro_batch_tokens: int = 1024
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("examples", "batch", "micro_batch_tokens"):
            require(getattr(self, name) >= 1, name, "must be at least 1", getattr(self, name))
        for name in ("lr", "max_grad_norm"):
            require(getattr(self, name) > 0, name, "must be above 0", getattr(self, name))

    @property
    def steps(self) -> int:
        """Gradient steps."""
        return math.ceil(self.examples / self.batch)


def examples_of(policy: Policy, tasks: Sequence[SolvedTask], name: str) -> list[Example]:
    """What ``policy`` can imitate: the tasks that have a reference, each prompt as training renders it.

    Those that the model has no room for are left out. Raises ConfigError when none of ``tasks`` (those of ``name``) has
    a reference, or none fits.
    """
    solved = [task for task in tasks if task.reference.strip()]
    if not solved:
        raise ConfigError(
            f"a warm start imitates reference solutions, and none of the {len(tasks)} tasks of {name!r} has one: give "
            "tasks with solutions (in native rows the key 'reference', a whole program)"
        )
    prompts = policy.prompts(solved)
    examples = [
        Example(prompt=prompt.ids, answer=_answer(policy, task, prompt.prefill))
        for task, prompt in zip(solved, prompts, strict=True)
    ]
    most = policy.context or math.inf
    fitting = [one for one in examples if one.tokens <= most]
    if not fitting:
        raise ConfigError(
            f"a solved task must have at most {most} tokens, which the model was made for, and the shortest of the "
            f"{len(examples)} of {name!r} has {min(one.tokens for one in examples)}: give shorter tasks"
        )
    return fitting


def _answer(policy: Policy, task: SolvedTask, prefill: str) -> list[int]:
    """The reference as the policy would have to write it: after the prompt, or as a program in a code block, which a
    prefill may have opened."""
    if policy.prompt == "chat":
        opened = prefill.count(FENCE) % 2 == 1
        opening = f"{FENCE}python\n" if not opened else "" if prefill.endswith("\n") else "\n"
        text = f"{opening}{task.reference.strip()}\n{FENCE}"
    elif task.prompt_is_code and task.reference.startswith(task.prompt):
        text = task.reference[len(task.prompt) :].rstrip()
    else:
        text = task.reference.strip()
    return [*continuation_ids(policy.tokenizer, text), policy.eos_id]


def warm_start(
    policy: Policy,
    examples: Sequence[Example],
    plan: WarmStart,
    on_step: Callable[[float], None] | None = None,
) -> list[float]:
    """Train ``policy`` in place; return the loss of every step, in nats per answer token, before that step.

    ``on_step`` is told each as it comes. Raises NonFiniteError when the loss or its gradient is not finite.
    """
    engine, weights = Engine(policy), MasterWeights(policy.model)
    gradients = Gradients([p for p in policy.model.parameters() if p.requires_grad])
    optimizer = torch.optim.AdamW(weights.parameters, lr=plan.lr, weight_decay=0.0, fused=True)
    weights.serve(optimizer)
    losses: list[float] = []
    for step in range(plan.steps):
        batch = [examples[i] for i in _places(len(examples), plan, step)]
        gradients.clear()
        losses.append(_backward(engine, gradients, batch, plan.micro_batch_tokens))
        norm = torch.nn.utils.get_total_norm(summed := gradients.tensors())
        if not (math.isfinite(losses[-1]) and math.isfinite(float(norm))):
            raise NonFiniteError(
                f"the loss of a warm start must be finite, it is {losses[-1]} at step {step + 1} with a gradient of "
                f"norm {float(norm)}: use a smaller rate than {plan.lr:g}, or another policy"
            )
        torch._foreach_mul_(summed, min(1.0, plan.max_grad_norm / (float(norm) + 1e-6)))
        gradients.give(weights.parameters)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if on_step is not None:
            on_step(losses[-1])
    gradients.clear()
    return losses


def _places(count: int, plan: WarmStart, step: int) -> list[int]:
    """Which of ``count`` examples a step learns from."""
    places = range(step * plan.batch, min((step + 1) * plan.batch, plan.examples))
    epochs = {place // count for place in places}
    orders = {epoch: rng_for(plan.seed, 0, epoch, "warm start").permutation(count) for epoch in epochs}
    return [int(orders[place // count][place % count]) for place in places]


def _backward(engine: Engine, gradients: Gradients, batch: Sequence[Example], most: int) -> float:
    """Add the gradient of the batch, in parts of at most ``most`` tokens; return its loss."""
    tokens = sum(len(example.answer) for example in batch)
    total = 0.0
    for part in _parts(batch, most):
        prompts, answers = [example.prompt for example in part], [example.answer for example in part]
        scores = engine.score(prompts, answers, temperature=1.0)
        loss = -(scores.logprobs_NT * scores.mask_NT).sum() / tokens
        loss.backward()  # type: ignore[no-untyped-call]
        gradients.collect()
        total += float(loss.detach())
    return total


def _parts(batch: Sequence[Example], most: int) -> list[list[Example]]:
    """The batch in parts of at most ``most`` tokens, short examples together; a longer one is alone."""
    parts: list[list[Example]] = []
    held = 0
    for example in sorted(batch, key=lambda one: one.tokens):
        if not parts or held + example.tokens > most:
            parts.append([])
            held = 0
        parts[-1].append(example)
        held += example.tokens
    return parts


def start_policy(
    config: PolicyConfig,
    tasks: Sequence[SolvedTask],
    name: str,
    plan: WarmStart,
    folder: Path,
    on_step: Callable[[float], None] | None = None,
    prompter: Prompter | None = None,
) -> list[float]:
    """``warm_start`` of the policy that ``config`` names, on ``tasks`` (those of ``name``), as ``prompter`` renders
    them. Returns the losses.

    Writes ``folder`` whole or not at all: a Hugging Face folder, with ``warm_start.json`` that says what it is made of.

    Raises PolicyError, ConfigError, NonFiniteError, and before the first step RunError for a folder that is not new or
    a disk without room for the policy.
    """
    check_new(folder)
    policy = Policy.load(config, prompter=prompter)
    examples = examples_of(policy, tasks, name)
    saved = [p for p in policy.model.parameters() if p.requires_grad or not config.lora_rank]
    require_room(folder, sum(p.numel() * p.element_size() for p in saved), "the policy")
    losses = warm_start(policy, examples, plan, on_step)
    origin: dict[str, Any] = {"policy": config.path, "prompt": policy.prompt, "settings": plain(config)}
    origin |= {"tasks": name, "solved_tasks": len(examples)}
    if config.path in KNOWN:
        origin |= {"licence": KNOWN[config.path].licence, "note": KNOWN[config.path].note}

    def fill(target: Path) -> None:
        policy.save(target)
        (target / "warm_start.json").write_text(json.dumps(origin | asdict(plan) | {"losses": losses}, indent=2) + "\n")

    with reporting(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_folder(folder, fill)
    return losses


def describe(losses: Sequence[float], config: PolicyConfig, tasks: str, folder: Path) -> str:
    """What came of a warm start on ``tasks`` in ``folder``, and the command that trains on under the same prompts."""
    unset = PolicyConfig()
    kept = {k: v for k, v in plain(config).items() if v != getattr(unset, k) and k not in ("path", "lora_rank")}
    settings: dict[str, Any] = {"policy": {"path": str(folder), "prompt": config.prompt} | kept}
    if tasks != "testbed":
        settings["tasks"] = {"path": tasks}
    pairs = [(f"{section}.{k}", v) for section, values in settings.items() for k, v in values.items()]
    given = [part for key, v in pairs for part in ("--set", f"{key}={v if isinstance(v, str) else json.dumps(v)}")]
    command = shlex.join(["sr", "run", *given, "--out", "RUN"])
    said = f"loss from {losses[0]:.2f} to {losses[-1]:.2f} nats per token; written to {folder}"
    return f"{said}. Next: {command}"
