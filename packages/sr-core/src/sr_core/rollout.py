"""Sampling completions: every prompt is read once, its cache shared by its samples, finished ones leave the batch.

Axes: P prompts, G samples per prompt, N = P*G sequences, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Cache

from sr_core.cache import roomy_cache
from sr_core.errors import NonFiniteError
from sr_core.policy import Policy

__all__ = ["Rollout", "sample"]


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """N completions, prompt by prompt: sequence ``i`` answers prompt ``i // group_size``.

    ``tokens``: completion ids, the end-of-sequence token included where it was drawn. ``logprobs``: of each of these
    tokens under the distribution it was drawn from. ``entropy``: mean over all drawn tokens, in nats.
    """

    prompts: list[list[int]]
    group_size: int
    tokens: list[list[int]]
    logprobs: list[Tensor]
    truncated: list[bool]
    entropy: float

    @property
    def lengths(self) -> list[int]:
        """Tokens of each completion."""
        return [len(t) for t in self.tokens]


@torch.inference_mode()
def sample(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    group_size: int,
    *,
    temperature: float,
    max_new_tokens: int,
    rng: torch.Generator,
    batch_size: int = 512,
) -> Rollout:
    """Draw ``group_size`` completions of each prompt (token ids) at ``temperature``.

    A completion ends with the policy's end-of-sequence token or after ``max_new_tokens`` (then it is ``truncated``).
    """
    per_chunk = max(1, batch_size // group_size)
    tokens: list[list[int]] = []
    logprobs: list[Tensor] = []
    entropy_sum = 0.0
    for start in range(0, len(prompts), per_chunk):
        chunk = prompts[start : start + per_chunk]
        ids_NT, logprobs_NT, entropies = _decode(policy, chunk, group_size, temperature, max_new_tokens, rng)
        for ids, values in zip(ids_NT.tolist(), logprobs_NT, strict=True):
            length = ids.index(policy.eos_id) + 1 if policy.eos_id in ids else len(ids)
            tokens.append(ids[:length])
            logprobs.append(values[:length].clone())
        entropy_sum += entropies
    drawn = sum(map(len, tokens))
    return Rollout(
        prompts=[list(p) for p in prompts],
        group_size=group_size,
        tokens=tokens,
        logprobs=logprobs,
        truncated=[t[-1] != policy.eos_id for t in tokens],
        entropy=entropy_sum / max(drawn, 1),
    )


def _decode(
    policy: Policy,
    prompts: Sequence[Sequence[int]],
    group_size: int,
    temperature: float,
    max_new_tokens: int,
    rng: torch.Generator,
) -> tuple[Tensor, Tensor, float]:
    """Ids and log-probabilities (N x T, padded after the end) and the sum of token entropies."""
    device = policy.device
    mask, last_hidden, cache = _prefill(policy, prompts, max_new_tokens)
    cache.batch_repeat_interleave(group_size)
    mask = mask.repeat_interleave(group_size, dim=0)
    hidden = last_hidden.repeat_interleave(group_size, dim=0)
    position = mask.sum(1)
    rows = torch.arange(mask.shape[0], device=device)  # which sequence each line of the shrinking batch is
    ids_NT = torch.full((len(rows), max_new_tokens), policy.eos_id, device=device)
    logprobs_NT = hidden.new_zeros((len(rows), max_new_tokens), dtype=torch.promote_types(hidden.dtype, torch.float32))
    entropy = torch.zeros((), device=device, dtype=torch.float64)
    alive = torch.ones(len(rows), dtype=torch.bool, device=device)
    for t in range(max_new_tokens):
        logprobs_V = torch.log_softmax(policy.logits(hidden) / temperature, dim=-1)
        if not bool(torch.isfinite(hidden).all()):
            raise NonFiniteError("a policy's scores must be finite, these are not: lower optim.lr, or guard the run")
        probs_V = logprobs_V.exp()
        drawn = _draw(probs_V, rng)
        ids_NT[rows, t] = drawn[:, 0]
        logprobs_NT[rows, t] = logprobs_V.gather(1, drawn)[:, 0]
        entropy -= torch.where(probs_V > 0, probs_V * logprobs_V, 0)[alive].sum()
        alive = alive & (drawn[:, 0] != policy.eos_id)
        left = int(alive.sum())
        if t + 1 == max_new_tokens or left == 0:
            break
        if left <= 0.8 * len(rows):  # shrinking copies the cache, so it waits until it frees a good part of it
            going = alive.nonzero()[:, 0]
            cache.batch_select_indices(going)
            rows, drawn, mask, position, alive = (x[going] for x in (rows, drawn, mask, position, alive))
        mask = torch.cat([mask, mask.new_ones((len(rows), 1))], dim=1)
        out = policy.hidden(
            input_ids=drawn,
            attention_mask=mask,
            position_ids=position[:, None],
            past_key_values=cache,
            use_cache=True,
        )
        hidden = out.last_hidden_state[:, -1]
        position = position + 1
    return ids_NT, logprobs_NT, float(entropy)


def _draw(probs_NV: Tensor, rng: torch.Generator) -> Tensor:
    """One token per row (N x 1) by inverting the cumulative distribution: one random number a row, not V of them."""
    cumulative = probs_NV.cumsum(-1)
    uniform = torch.rand((len(probs_NV), 1), generator=rng, device=probs_NV.device, dtype=probs_NV.dtype)
    # right: the first token whose sum exceeds the number, so that one of probability 0 is never drawn
    return torch.searchsorted(cumulative, uniform * cumulative[:, -1:], right=True).clamp(max=probs_NV.shape[1] - 1)


def _prefill(policy: Policy, prompts: Sequence[Sequence[int]], room: int) -> tuple[Tensor, Tensor, Cache]:
    """Read every prompt once, left-padded: mask (P x T), last hidden state (P x hidden), cache with ``room``."""
    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), policy.pad_id)
    mask = torch.zeros((len(prompts), width), dtype=torch.long)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        mask[row, width - len(prompt) :] = 1
    ids, mask = ids.to(policy.device), mask.to(policy.device)
    cache = roomy_cache(policy.model.config.get_text_config().num_hidden_layers, room)
    out = policy.hidden(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0),
        past_key_values=cache,
        use_cache=True,
    )
    return mask, out.last_hidden_state[:, -1], cache
