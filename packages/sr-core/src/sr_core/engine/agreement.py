"""Which of the engine's ways of computing gives a model's own hidden states, found by computing a few tokens.

Every completion is read by itself, by the model alone; then with its prompts shared, token by token and at once, and
through transformers' cache among others. Windows of attention are narrowed meanwhile, so that few tokens reach beyond
them: some models have a window of 262,144.

Axes: P prompts, N completions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from sr_core.engine.decoders import BranchingDecoder, Decoder, PlainDecoder
from sr_core.engine.scoring import plain_states, shared_states
from sr_core.engine.shared_prompts import SharedPrompts, shared_attention
from sr_core.errors import PolicyError
from sr_core.policy import Policy

__all__ = ["shares_prompts"]

WINDOW = 5
PROMPTS = ([1, 2, 0, 3, 1, 4, 2, 5, 0], [3, 2])
COMPLETIONS = ([1, 2, 3], [1, 0, 3], [2, 4, 1], [2, 4, 0])  # two of each prompt: some part early, some late
# what a model raises that is not made for a way of computing
_UNFIT = (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)


@torch.no_grad()
def shares_prompts(policy: Policy) -> bool:
    """Whether ``policy`` gives the same hidden states where the samples of a prompt share it as by itself.

    Where not, every sample reads its prompt for itself, through transformers' cache. A model that asks for more than a
    plain softmax cannot share, however little that changes here: these are few tokens, and the weights will move.
    Raises PolicyError where neither way gives the model's own states. States that are not finite say nothing of the
    architecture, and sampling refuses them.
    """
    size = policy.model.config.get_text_config().vocab_size
    prompts = [[i % size for i in prompt] for prompt in PROMPTS]
    completions = [[i % size for i in completion] for completion in COMPLETIONS]
    owners = [prompt for prompt in prompts for _ in range(2)]
    with _narrowed(policy.decoder):
        own = torch.cat([_own(policy, p, c) for p, c in zip(owners, completions, strict=True)])
        if not bool(own.isfinite().all()):
            return False
        exact = own.dtype in (torch.float32, torch.float64)

        def shared() -> list[Tensor]:
            with shared_attention(policy.decoder):
                decoded = _decoded(BranchingDecoder(policy, prompts, 2, len(COMPLETIONS[0])), completions)
                return [shared_states(policy, SharedPrompts, owners, completions), decoded]

        def plain() -> list[Tensor]:
            decoded = _decoded(PlainDecoder(policy, prompts), completions)
            return [plain_states(policy, owners, completions), decoded]

        if all(bool((s - own).abs().max() <= (1e-4 if exact else 5e-2) * own.abs().max()) for s in _tried(shared)):
            return True
        # as a whole, since one expert chosen differently by rounding is no other model
        if all(bool((s - own).norm() <= (1e-3 if exact else 1e-1) * own.norm()) for s in _tried(plain)):
            return False
    raise PolicyError(
        "a policy must give the states of its model when it is read token by token, and the architecture "
        f"{policy.model.config.get_text_config().model_type!r} does not (recurrent and hybrid layers do not): use a "
        "model whose layers are attention over all earlier tokens or a window of them"
    )


def _tried(compute: Callable[[], list[Tensor]]) -> list[Tensor]:
    """What ``compute`` gives; where the model is not made for it, what agrees with nothing."""
    try:
        return compute()
    except _UNFIT:
        return [torch.tensor(torch.nan)]


def _own(policy: Policy, prompt: list[int], completion: list[int]) -> Tensor:
    """The model's states that predict ``completion`` (T x hidden), from one pass over it alone."""
    ids = torch.tensor([prompt + completion[:-1]], device=policy.device)
    hidden: Tensor = policy.decoder(input_ids=ids, use_cache=False).last_hidden_state[0, len(prompt) - 1 :]
    return hidden


def _decoded(decoder: Decoder, completions: list[list[int]]) -> Tensor:
    """The same of all completions (N * T x hidden), read token after token as sampling reads them."""
    hidden = decoder.first()
    device = hidden.device
    number = torch.arange(len(completions), device=device)
    branch = torch.arange(len(hidden), device=device).repeat_interleave(len(completions) // len(hidden))
    states = [hidden[branch]]
    for column in torch.tensor(completions, device=device).T[:-1]:
        hidden, branch = decoder.next(number, branch, column)
        states.append(hidden[branch])
    return torch.stack(states, 1).flatten(0, 1)


@contextmanager
def _narrowed(decoder: Any) -> Iterator[None]:
    """Within it, every window of ``decoder`` that is wider than ``WINDOW`` is as wide."""
    before: list[tuple[Any, str, int]] = []
    for holder in (decoder.config, *decoder.modules()):
        for name in ("sliding_window", "attention_chunk_size"):
            value = getattr(holder, name, None)
            if isinstance(value, int) and value > WINDOW:
                before.append((holder, name, value))
                setattr(holder, name, WINDOW)
    try:
        yield
    finally:
        for holder, name, value in before:
            setattr(holder, name, value)
