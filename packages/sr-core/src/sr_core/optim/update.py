"""Gradient steps from a graded rollout: exact, in micro-batches, never with non-finite numbers.

Axes: P prompts, G samples per prompt, N = P*G sequences, U unique ones among them, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sr_core.algorithms import Algorithm, Counts
from sr_core.batch import Rollout
from sr_core.config import KlConfig, OptimConfig, PenaltyConfig, PullConfig
from sr_core.distributed.process_group import ALONE, Ranks
from sr_core.engine.scoring import completion_scores
from sr_core.penalties import Anchor, kl_per_token
from sr_core.penalties.kl import Estimator
from sr_core.policy import Policy

__all__ = ["UpdateResult", "update"]


@dataclass(frozen=True, kw_only=True)
class UpdateResult:
    """What an update did. ``steps``: gradient steps taken, fewer than ``optim.epochs`` when one was not finite.

    ``finite``: whether any was. ``loss``, ``grad_norm`` (before clipping) and ``kl`` (per trained token, or None) are
    the last taken one's; where none was, those of the one that was not.
    """

    finite: bool
    steps: int
    loss: float
    grad_norm: float
    kl: float | None


@dataclass(frozen=True, kw_only=True)
class _Sequences:
    """U unique sequences of a step; ``weights`` counts how many of the N each stands for.

    ``old_logprobs``: what the ratios compare with; None until the first epoch has computed it.
    """

    prompts: list[list[int]]
    tokens: list[list[int]]
    old_logprobs: list[Tensor | None]
    advantages: Tensor
    weights: Tensor


@dataclass(frozen=True, kw_only=True)
class _Objective:
    """What the loss of a step is made of; ``reference`` is given where the penalty is estimated on the samples."""

    algorithm: Algorithm
    counts: Counts
    temperature: float
    top_p: float
    penalty: PenaltyConfig
    coefficient: float
    reference: Policy | None
    entropy_bonus: float


def update(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    algorithm: Algorithm,
    rollout: Rollout,
    rewards_PG: Tensor,
    valid_PG: Tensor,
    *,
    temperature: float,
    top_p: float = 1.0,
    optim: OptimConfig,
    penalty: PenaltyConfig,
    coefficient: float | None = None,
    reference: Policy | None = None,
    anchor: Anchor | None = None,
    entropy_bonus: float = 0.0,
    ranks: Ranks = ALONE,
    on_policy: bool = True,
) -> UpdateResult:
    """Take ``optim.epochs`` gradient steps on one rollout.

    ``on_policy``: ``policy`` drew it as it is now. The old log-probabilities are then those of the first epoch itself,
    so that its ratios are exactly 1: the sampler's differ from them by rounding, in bfloat16 by more than a narrow clip
    allows. Where an earlier policy drew it (False), they are the rollout's own.

    ``rewards_PG`` and ``valid_PG`` (P x G) hold the verdicts. A sequence without a verdict trains nothing, nor does a
    group without any advantage (equal rewards, as a rule), not through penalty or bonus either; the means of the loss
    are over all that were judged. ``coefficient`` is the penalty's now, the configured one if left out; ``reference``
    and ``anchor`` are what it pulls to. A step whose loss or gradient norm is not finite is not taken, nor any after
    it, and the result says so. Several processes (``ranks``) are all given the whole rollout; each computes its share
    of the micro-batches, and gradients are added up.
    """
    advantages_PG = algorithm.advantages(rewards_PG, valid_PG)
    lengths_PG = torch.tensor(rollout.lengths, dtype=torch.float32).view_as(rewards_PG)
    counts = Counts(sequences=max(float(valid_PG.sum()), 1.0), tokens=max(float((lengths_PG * valid_PG).sum()), 1.0))
    trained_PG = valid_PG & (advantages_PG != 0)
    if reference is not None or entropy_bonus > 0:  # without them, an advantage of 0 is a gradient of 0
        trained_PG = valid_PG & trained_PG.any(1, keepdim=True)
    unique = _deduplicate(rollout, advantages_PG.flatten(), trained_PG.flatten(), on_policy)
    objective = _Objective(
        algorithm=algorithm,
        counts=counts,
        temperature=temperature,
        top_p=top_p,
        penalty=penalty,
        coefficient=_configured(penalty) if coefficient is None else coefficient,
        reference=reference,
        entropy_bonus=entropy_bonus,
    )
    trained_tokens = float((lengths_PG * trained_PG).sum())
    parameters = [p for p in policy.model.parameters() if p.requires_grad]
    batches = list(_micro_batches(unique, min(optim.micro_batch_tokens, math.ceil(_cost(unique) / ranks.count))))
    mine = ranks.balance(batches, [sum(len(unique.tokens[row]) for row in rows) for rows in batches])
    shares = [1.0] * len(mine)
    if policy.sharded and batches:  # the weights come together for all at once, so all need as many passes
        idle = max(ranks.gather([len(mine)])) - len(mine)
        mine, shares = mine + [batches[0][:1]] * idle, shares + [0.0] * idle
    result = UpdateResult(finite=False, steps=0, loss=0.0, grad_norm=0.0, kl=None)
    for epoch in range(optim.epochs):
        for parameter in parameters:  # the optimizer may step on copies, so it does not know these
            parameter.grad = None
        loss = kl = 0.0
        for rows, share in zip(mine, shares, strict=True):
            part, part_kl = _backward(policy, objective, unique, rows, share)
            loss, kl = loss + part, kl + part_kl
        loss, kl = ranks.total(loss, kl)
        for parameter in parameters:  # a process may have nothing to teach; the optimizer's moments move all the same
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        if not policy.sharded:  # else they were added up as they came
            ranks.all_reduce([p.grad for p in parameters if p.grad is not None])
        if anchor is not None and unique.tokens:
            loss += anchor.pull(policy, objective.coefficient)
        norm = _clip(parameters, optim.max_grad_norm)
        finite = math.isfinite(loss) and math.isfinite(norm)
        if finite or epoch == 0:
            mean_kl = kl / trained_tokens if reference is not None and trained_tokens else None
            result = UpdateResult(finite=finite, steps=epoch + finite, loss=loss, grad_norm=norm, kl=mean_kl)
        if not finite:
            break
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return result


def _configured(penalty: PenaltyConfig) -> float:
    return penalty.coefficient if isinstance(penalty, PullConfig) else 0.0


def _estimator(penalty: PenaltyConfig) -> Estimator:
    return penalty.estimator if isinstance(penalty, KlConfig) else KlConfig.estimator


def _deduplicate(rollout: Rollout, advantages_N: Tensor, wanted_N: Tensor, on_policy: bool) -> _Sequences:
    """The ``wanted_N`` sequences; those equal in prompt, tokens and advantage are computed once and weighted."""
    index: dict[object, int] = {}
    rows: list[int] = []
    weights: list[float] = []
    for i in wanted_N.nonzero()[:, 0].tolist():
        prompt = i // rollout.group_size
        key = (tuple(rollout.prompts[prompt]), tuple(rollout.tokens[i]), float(advantages_N[i]))
        if key in index:
            weights[index[key]] += 1
        else:
            index[key] = len(rows)
            rows.append(i)
            weights.append(1.0)
    return _Sequences(
        prompts=[rollout.prompts[i // rollout.group_size] for i in rows],
        tokens=[rollout.tokens[i] for i in rows],
        old_logprobs=[None if on_policy else rollout.logprobs[i] for i in rows],
        advantages=advantages_N[rows],
        weights=torch.tensor(weights),
    )


def _cost(sequences: _Sequences) -> int:
    """Tokens of all sequences, a prompt and its samples together."""
    return sum(map(len, {tuple(p) for p in sequences.prompts})) + sum(map(len, sequences.tokens))


def _micro_batches(sequences: _Sequences, max_tokens: int) -> Iterator[list[int]]:
    """Row numbers in batches of at most ``max_tokens`` tokens, a prompt and its samples together.

    Within a batch, a prompt counts once. Prompts of similar lengths meet, and so do samples.
    """
    rows = sorted(
        range(len(sequences.tokens)),
        key=lambda row: (len(sequences.prompts[row]), sequences.prompts[row], len(sequences.tokens[row])),
    )
    batch: list[int] = []
    tokens = 0
    for row in rows:
        prompt = sequences.prompts[row]
        cost = len(sequences.tokens[row])
        if not batch or prompt != sequences.prompts[batch[-1]]:
            cost += len(prompt)
        if batch and tokens + cost > max_tokens:
            yield batch
            batch, tokens, cost = [], 0, len(prompt) + len(sequences.tokens[row])
        batch.append(row)
        tokens += cost
    if batch:
        yield batch


def _clip(parameters: Sequence[Tensor], most: float) -> float:
    """Shorten the gradient, all of it together, to a norm of ``most``; return the norm that it had."""
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    torch.nn.utils.clip_grads_with_norm_(parameters, most, norm)
    return float(norm)


def _backward(
    policy: Policy, objective: _Objective, sequences: _Sequences, rows: list[int], share: float
) -> tuple[float, float]:
    """Add ``share`` of the gradient of ``rows``; return as much of their part of the loss and of their tokens' KL."""
    prompts, tokens = [sequences.prompts[r] for r in rows], [sequences.tokens[r] for r in rows]
    weights_N = share * sequences.weights[rows].to(policy.device)
    advantages_N = sequences.advantages[rows].to(policy.device)
    bonus, counts = objective.entropy_bonus, objective.counts
    score = partial(completion_scores, temperature=objective.temperature, top_p=objective.top_p)
    scores = score(policy, prompts, tokens, entropy=bonus > 0)
    logprobs_NT, mask_NT = scores.logprobs_NT, scores.mask_NT
    old_NT = _old(sequences, rows, logprobs_NT.detach())
    losses_N = objective.algorithm.loss(logprobs_NT, old_NT, advantages_N, mask_NT, counts)
    kl = 0.0
    if objective.reference is not None:
        with torch.no_grad():
            reference_NT = score(objective.reference, prompts, tokens).logprobs_NT
        divergence_N = kl_per_token(logprobs_NT, reference_NT, mask_NT, _estimator(objective.penalty)).sum(1)
        losses_N = losses_N + objective.coefficient * divergence_N / counts.tokens
        kl = float((weights_N * divergence_N.detach()).sum())
    if scores.entropy_NT is not None:
        losses_N = losses_N - bonus * (scores.entropy_NT * mask_NT).sum(1) / counts.tokens
    loss = (weights_N * losses_N).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    return float(loss.detach()), kl


def _old(sequences: _Sequences, rows: list[int], now_NT: Tensor) -> Tensor:
    """What the ratios of ``rows`` compare with (N x T); of rows that have nothing yet it is ``now_NT``, and kept."""
    old_NT = torch.zeros_like(now_NT)
    for line, row in enumerate(rows):
        length = len(sequences.tokens[row])
        known = sequences.old_logprobs[row]
        if known is None:
            known = sequences.old_logprobs[row] = now_NT[line, :length]
        old_NT[line, :length] = known.to(now_NT.device)
    return old_NT
