"""Log-probabilities of given completions under the distribution they are drawn from, exact and with little memory.

Axes: N completions, T tokens of the longest, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from sr_core.engine.flex_attention import FlexPrompts
from sr_core.engine.shared_prompts import SharedPrompts, shared_attention
from sr_core.policy import Policy
from sr_core.policy.linear import fast_linear

__all__ = ["Scores", "completion_scores", "engine_of", "nucleus"]

LOGIT_CHUNK = 2048  # tokens whose V scores are held at once


@dataclass(frozen=True, kw_only=True)
class Scores:
    """``logprobs_NT`` of the completions' tokens; ``mask_NT`` is 1 on them; ``entropy_NT`` in nats, where asked for."""

    logprobs_NT: Tensor
    mask_NT: Tensor
    entropy_NT: Tensor | None


@contextmanager
def engine_of(policy: Policy) -> Iterator[None]:
    """Within it, the policy's decoder takes plans that share prompts, where its architecture can, and is fast."""
    decoder = policy.decoder
    with fast_linear(decoder), shared_attention(decoder) if policy.shares_prompts else nullcontext():
        yield


def completion_scores(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    tokens: Sequence[Sequence[int]],
    *,
    temperature: float,
    top_p: float = 1.0,
    entropy: bool = False,
) -> Scores:
    """Scores of completions ``tokens[i]`` (at least one token each) of ``prompts[i]``.

    Equal prompts are read once, where the policy's architecture can. Scores over the vocabulary exist for
    ``LOGIT_CHUNK`` tokens at a time, in the backward pass too.
    """
    with engine_of(policy):
        hidden = (_shared_states if policy.shares_prompts else _plain_states)(policy, prompts, tokens)
    targets = torch.tensor([token for t in tokens for token in t], device=policy.device)
    values, entropies = _token_scores(policy, hidden, targets, temperature, top_p, entropy)
    lengths = torch.tensor([len(t) for t in tokens], device=policy.device)
    real = torch.arange(int(lengths.max()), device=policy.device) < lengths[:, None]
    grid = torch.zeros(real.shape, dtype=values.dtype, device=policy.device)
    return Scores(
        logprobs_NT=grid.masked_scatter(real, values),
        mask_NT=real.to(values.dtype),
        entropy_NT=grid.masked_scatter(real, entropies) if entropy else None,
    )


def _shared_states(policy: Policy, prompts: Sequence[Sequence[int]], tokens: Sequence[Sequence[int]]) -> Tensor:
    unique: dict[tuple[int, ...], int] = {}
    owners = [unique.setdefault(tuple(p), len(unique)) for p in prompts]
    plan = FlexPrompts if policy.flexes else SharedPrompts
    batch = plan(list(unique), tokens, owners, device=policy.device)
    return batch.states(policy.read(**batch.inputs).last_hidden_state)


def _plain_states(policy: Policy, prompts: Sequence[Sequence[int]], tokens: Sequence[Sequence[int]]) -> Tensor:
    """Every sequence with its own prompt, padded on the right: for any architecture, and the tests' measure."""
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


def _token_scores(
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
