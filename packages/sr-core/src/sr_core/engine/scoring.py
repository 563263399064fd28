"""Log-probabilities of given completions under the distribution they are drawn from, exact and with little memory.

Axes: N completions, T tokens of the longest, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from sr_core.engine.shared_prompts import SharedPrompts
from sr_core.policy import Policy

__all__ = ["Scores", "nucleus", "plain_states", "shared_states", "token_scores"]

LOGIT_CHUNK = 2048  # tokens whose V scores are held at once


@dataclass(frozen=True, kw_only=True)
class Scores:
    """``logprobs_NT`` of the completions' tokens; ``mask_NT`` is 1 on them; ``entropy_NT`` in nats, where asked for."""

    logprobs_NT: Tensor
    mask_NT: Tensor
    entropy_NT: Tensor | None


def shared_states(
    policy: Policy, layout: type[SharedPrompts], prompts: Sequence[Sequence[int]], tokens: Sequence[Sequence[int]]
) -> Tensor:
    """Hidden states that predict the completions' tokens, completion after completion; equal prompts are read once."""
    unique: dict[tuple[int, ...], int] = {}
    owners = [unique.setdefault(tuple(p), len(unique)) for p in prompts]
    batch = layout(list(unique), tokens, owners, device=policy.device)
    return batch.states(policy.read(**batch.inputs).last_hidden_state)


def plain_states(policy: Policy, prompts: Sequence[Sequence[int]], tokens: Sequence[Sequence[int]]) -> Tensor:
    """The same with every sequence reading its own prompt, padded on the right: for any architecture, and in tests."""
    width = max(len(p) + len(t) for p, t in zip(prompts, tokens, strict=True))
    ids = torch.full((len(prompts), width), policy.pad_id)
    attention = torch.zeros((len(prompts), width), dtype=torch.long)
    places: list[Tensor] = []  # flat places of the hidden states that predict the completion tokens
    for i, (prompt, completion) in enumerate(zip(prompts, tokens, strict=True)):
        end = len(prompt) + len(completion)
        ids[i, :end] = torch.tensor([*prompt, *completion])
        attention[i, :end] = 1
        places.append(i * width + torch.arange(len(prompt) - 1, end - 1))
    inputs = {"input_ids": ids.to(policy.device), "attention_mask": attention.to(policy.device), "use_cache": False}
    hidden = policy.read(**inputs).last_hidden_state
    states: Tensor = hidden.flatten(0, 1).index_select(0, torch.cat(places).to(policy.device))
    return states


def token_scores(
    policy: Policy, hidden: Tensor, targets: Tensor, temperature: float, top_p: float, entropy: bool
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target given its hidden state, and the entropy there (empty if not asked for)."""

    def chunk(hidden_part: Tensor, target_part: Tensor) -> tuple[Tensor, Tensor]:
        logits = policy.logits(hidden_part) / temperature
        if top_p < 1:
            logits = nucleus(logits, top_p, keep=target_part[:, None])
        logprobs = -cross_entropy(logits, target_part, reduction="none")
        if not entropy:
            return logprobs, logprobs.new_empty(0)
        all_logprobs = logits.log_softmax(1)
        return logprobs, -(all_logprobs.exp() * all_logprobs.masked_fill(logits == -torch.inf, 0)).sum(1)

    if len(targets) <= LOGIT_CHUNK:
        return chunk(hidden, targets)
    parts = [
        checkpoint(chunk, h, t, use_reentrant=False)
        for h, t in zip(torch.split(hidden, LOGIT_CHUNK), torch.split(targets, LOGIT_CHUNK), strict=True)
    ]
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])


def nucleus(logits: Tensor, top_p: float, keep: Tensor | None = None) -> Tensor:
    """``logits`` (N x V), -inf outside the smallest set of likeliest tokens that holds ``top_p`` of the probability.

    ``keep`` (N x 1): a token that stays in any case, since rounding may differ between drawing and training.
    """
    with torch.no_grad():
        probs, order = logits.softmax(1).sort(dim=1, descending=True)
        outside = torch.empty_like(probs, dtype=torch.bool).scatter_(1, order, probs.cumsum(1) - probs >= top_p)
        if keep is not None:
            outside.scatter_(1, keep, False)
    return logits.masked_fill(outside, -torch.inf)
