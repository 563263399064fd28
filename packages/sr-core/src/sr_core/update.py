"""One gradient step from a graded rollout: exact, in micro-batches, never with non-finite numbers.

Axes: P prompts, G samples per prompt, N = P*G sequences, U unique ones among them, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from sr_core.algorithms import Algorithm, Counts
from sr_core.config import OptimConfig, PenaltyConfig
from sr_core.penalty import kl_per_token
from sr_core.policy import Policy
from sr_core.rollout import Rollout

__all__ = ["UpdateResult", "sequence_logprobs", "update"]

LOGIT_CHUNK = 2048  # tokens whose V scores are held at once


@dataclass(frozen=True, kw_only=True)
class UpdateResult:
    """``finite``: whether the step was taken; ``grad_norm``: before clipping; ``kl``: mean per token, or None."""

    finite: bool
    loss: float
    grad_norm: float
    kl: float | None


@dataclass(frozen=True, kw_only=True)
class _Sequences:
    """U unique sequences of a step; ``weights`` counts how many of the N each stands for."""

    prompts: list[list[int]]
    tokens: list[list[int]]
    old_logprobs: list[Tensor]
    advantages: Tensor
    weights: Tensor


def update(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    algorithm: Algorithm,
    rollout: Rollout,
    rewards_PG: Tensor,
    valid_PG: Tensor,
    *,
    temperature: float,
    optim: OptimConfig,
    penalty: PenaltyConfig,
    reference: Policy | None = None,
) -> UpdateResult:
    """Take ``optim.epochs`` gradient steps on one rollout.

    ``rewards_PG`` and ``valid_PG`` (P x G) hold the verdicts; a sequence without a verdict trains nothing. A step whose
    loss or gradient norm is not finite is not taken, and the result says so.
    """
    unique = _deduplicate(rollout, algorithm.advantages(rewards_PG, valid_PG).flatten(), valid_PG.flatten())
    lengths = torch.tensor([len(t) for t in unique.tokens], dtype=torch.float32)
    counts = Counts(
        sequences=max(float(unique.weights.sum()), 1.0),
        tokens=max(float((unique.weights * lengths).sum()), 1.0),
    )
    parameters = [p for p in policy.model.parameters() if p.requires_grad]
    result = UpdateResult(finite=True, loss=0.0, grad_norm=0.0, kl=None)
    for _ in range(optim.epochs):
        optimizer.zero_grad(set_to_none=True)
        loss = kl = 0.0
        for rows in _micro_batches(unique, optim.micro_batch_tokens):
            part, part_kl = _backward(policy, algorithm, unique, rows, counts, temperature, penalty, reference)
            loss, kl = loss + part, kl + part_kl
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, optim.max_grad_norm))
        result = UpdateResult(
            finite=math.isfinite(loss) and math.isfinite(norm),
            loss=loss,
            grad_norm=norm,
            kl=kl if reference is not None else None,
        )
        if not result.finite:
            break
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return result


def _deduplicate(rollout: Rollout, advantages_N: Tensor, valid_N: Tensor) -> _Sequences:
    """Sequences that are equal in prompt, tokens and advantage are computed once and weighted."""
    index: dict[tuple[int, tuple[int, ...], float], int] = {}
    rows: list[int] = []
    weights: list[float] = []
    for i, tokens in enumerate(rollout.tokens):
        if not valid_N[i]:
            continue
        key = (i // rollout.group_size, tuple(tokens), float(advantages_N[i]))
        if key in index:
            weights[index[key]] += 1
        else:
            index[key] = len(rows)
            rows.append(i)
            weights.append(1.0)
    return _Sequences(
        prompts=[rollout.prompts[i // rollout.group_size] for i in rows],
        tokens=[rollout.tokens[i] for i in rows],
        old_logprobs=[rollout.logprobs[i] for i in rows],
        advantages=advantages_N[rows],
        weights=torch.tensor(weights),
    )


def _micro_batches(sequences: _Sequences, max_tokens: int) -> Iterator[list[int]]:
    """Row numbers in batches of at most ``max_tokens`` padded tokens, similar lengths together."""
    length = [len(p) + len(t) for p, t in zip(sequences.prompts, sequences.tokens, strict=True)]
    batch: list[int] = []
    for row in sorted(range(len(length)), key=length.__getitem__):
        if batch and (len(batch) + 1) * length[row] > max_tokens:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _backward(
    policy: Policy,
    algorithm: Algorithm,
    sequences: _Sequences,
    rows: list[int],
    counts: Counts,
    temperature: float,
    penalty: PenaltyConfig,
    reference: Policy | None,
) -> tuple[float, float]:
    """Add the gradient of ``rows``; return their share of the loss and of the mean KL per token."""
    device = policy.device
    prompts, tokens = [sequences.prompts[r] for r in rows], [sequences.tokens[r] for r in rows]
    logprobs_NT, mask_NT = sequence_logprobs(policy, prompts, tokens, temperature)
    old_NT = torch.zeros_like(logprobs_NT)
    for line, row in enumerate(rows):
        old_NT[line, : len(tokens[line])] = sequences.old_logprobs[row].to(device)
    weights = sequences.weights[rows].to(device)
    losses = algorithm.loss(logprobs_NT, old_NT, sequences.advantages[rows].to(device), mask_NT, counts)
    loss = (weights * losses).sum()
    kl = 0.0
    if reference is not None:
        with torch.no_grad():
            reference_NT, _ = sequence_logprobs(reference, prompts, tokens, temperature)
        divergence = (weights[:, None] * kl_per_token(logprobs_NT, reference_NT) * mask_NT).sum() / counts.tokens
        loss = loss + penalty.coefficient * divergence
        kl = float(divergence.detach())
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach()), kl


def sequence_logprobs(
    policy: Policy, prompts: list[list[int]], tokens: list[list[int]], temperature: float
) -> tuple[Tensor, Tensor]:
    """Log-probabilities of completion ``tokens`` under the sampling distribution, and their mask; both N x T.

    T is the longest completion. Scores over the vocabulary exist for ``LOGIT_CHUNK`` tokens at a time, in the backward
    pass too.
    """
    device = policy.device
    width = max(len(p) + len(t) for p, t in zip(prompts, tokens, strict=True))
    ids = torch.full((len(prompts), width), policy.pad_id)
    attention = torch.zeros((len(prompts), width), dtype=torch.long)
    longest = max(map(len, tokens))
    mask = torch.zeros((len(prompts), longest))
    places: list[Tensor] = []  # flat places of the hidden states that predict the completion tokens
    for i, (prompt, completion) in enumerate(zip(prompts, tokens, strict=True)):
        end = len(prompt) + len(completion)
        ids[i, :end] = torch.tensor(prompt + completion)
        attention[i, :end] = 1
        mask[i, : len(completion)] = 1
        places.append(i * width + torch.arange(len(prompt) - 1, end - 1))
    hidden = policy.hidden(input_ids=ids.to(device), attention_mask=attention.to(device), use_cache=False)
    flat = hidden.last_hidden_state.flatten(0, 1)[torch.cat(places).to(device)]
    targets = torch.cat([torch.tensor(t) for t in tokens]).to(device)
    values = _token_logprobs(policy, flat, targets, temperature)
    mask = mask.to(values)
    return torch.zeros_like(mask).masked_scatter(mask.bool(), values), mask


def _token_logprobs(policy: Policy, hidden: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Log-probability of each target token given its hidden state; chunked, recomputed in the backward pass."""

    def chunk(hidden_part: Tensor, target_part: Tensor) -> Tensor:
        logits = policy.logits(hidden_part) / temperature
        return logits.gather(1, target_part[:, None])[:, 0] - logits.logsumexp(1)

    if len(targets) <= LOGIT_CHUNK:
        return chunk(hidden, targets)
    parts = [
        checkpoint(chunk, h, t, use_reentrant=False)
        for h, t in zip(torch.split(hidden, LOGIT_CHUNK), torch.split(targets, LOGIT_CHUNK), strict=True)
    ]
    return torch.cat(parts)
