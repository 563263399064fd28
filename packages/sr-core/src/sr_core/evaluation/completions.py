"""Completions of many tasks for an evaluation: the same for a task whatever else is evaluated, in batches that fit."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from sr_core.config import SamplingConfig
from sr_core.engine import Engine
from sr_core.errors import PolicyError
from sr_core.policy import Policy
from sr_core.protocols import Task
from sr_core.seeds import torch_rng_for

__all__ = ["Answers", "Sampler", "fingerprint"]

CACHE_BYTES = 1 << 30  # of keys and values that the completions of a batch may hold


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a policy answered to ``task``: ``texts`` to grade, their ``tokens``, and which were cut off."""

    task: Any
    texts: list[str]
    tokens: list[int]
    truncated: list[bool]


class Sampler:
    """Draws ``samples`` completions of each task from ``policy`` as ``sampling`` says.

    A task's random numbers depend on ``seed`` and its id, so a part of the tasks gets the completions it would get
    among all. ``origin``: what else ``about`` says of the policy and its prompts. ``sampling.batch_size`` is lowered
    to what ``CACHE_BYTES`` hold. ``chat``: whether answers are programs in prose.
    """

    def __init__(
        self,
        policy: Policy,
        sampling: SamplingConfig,
        samples: int,
        seed: int,
        origin: Mapping[str, str] | None = None,
    ) -> None:
        self.engine, self.samples, self.seed = Engine(policy), samples, seed
        most = min(sampling.batch_size, _most_sequences(policy, sampling.max_new_tokens))
        self.sampling = replace(sampling, batch_size=most)
        self.chat = policy.prompt == "chat"
        self.origin = dict(origin or {})

    def about(self, tasks: Sequence[Task]) -> dict[str, Any]:
        """What decides the completions, as plain values: hashes of the weights and of the prompts (tokens, prefills,
        stops) of ``tasks``, and the sampling."""
        policy, sampling = self.engine.policy, self.sampling
        prompts = [(p.ids, p.prefill, p.stop) for p in policy.prompts(tasks, sampling.stop)]
        kept = ("temperature", "top_p", "max_new_tokens", "stop")
        return {
            **self.origin,
            "weights": fingerprint(policy),
            "prompt": policy.prompt,
            "prompts": hashlib.sha256(repr(prompts).encode("utf-8", "surrogatepass")).hexdigest()[:16],
            "samples": self.samples,
            "seed": self.seed,
            "sampling": {name: getattr(sampling, name) for name in kept},
        }

    def complete(self, tasks: Sequence[Task]) -> Iterator[Answers]:
        """The completions task by task, in order. Raises PolicyError for a prompt that leaves no room for
        ``sampling.max_new_tokens``, before any is drawn."""
        policy, sampling = self.engine.policy, self.sampling
        together = max(1, sampling.batch_size // self.samples)
        for task, prompt in zip(tasks, policy.prompts(tasks, sampling.stop), strict=True):
            _check_room(policy, task, len(prompt.ids), sampling.max_new_tokens)
        for start in range(0, len(tasks), together):
            part = tasks[start : start + together]
            prompts = policy.prompts(part, sampling.stop)
            rngs = [torch_rng_for(self.seed, 0, 0, f"evaluate {task.task_id}") for task in part]
            rollout = self.engine.sample(prompts, self.samples, sampling, rngs)
            texts = policy.answers(prompts, rollout.tokens)
            for i, task in enumerate(part):
                own = slice(i * self.samples, (i + 1) * self.samples)
                yield Answers(
                    task=task, texts=texts[own], tokens=rollout.lengths[own], truncated=rollout.truncated[own]
                )


def _most_sequences(policy: Policy, tokens: int) -> int:
    config = policy.model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    width = next(policy.model.parameters()).element_size()
    each: int = 2 * config.num_hidden_layers * heads * size * width * tokens
    return max(1, CACHE_BYTES // each)


def _check_room(policy: Policy, task: Task, prompt: int, tokens: int) -> None:
    most = policy.context
    if most is not None and prompt + tokens > most:
        raise PolicyError(
            f"a prompt and its completion must have at most {most} tokens, which the model was made for; that of task "
            f"{task.task_id} has {prompt}, and sampling.max_new_tokens is {tokens}: lower it "
            "(--set sampling.max_new_tokens=N), or leave the task out"
        )


def fingerprint(policy: Policy) -> str:
    """A hash of the weights: equal for equal policies, wherever they were loaded from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(policy.model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
