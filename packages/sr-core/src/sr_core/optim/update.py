"""Gradient steps from a step's samples: exact, in micro-batches, never with non-finite numbers.

Axes: P prompts, G samples per prompt, N = P*G sequences, U unique ones among them, T tokens, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch
from torch import Tensor

from sr_core.algorithms import Counts
from sr_core.batch import Batch, Rollout
from sr_core.config import OptimConfig
from sr_core.distributed.process_group import ALONE, Ranks
from sr_core.engine import Engine
from sr_core.optim.gradients import Gradients
from sr_core.optim.objective import Objective
from sr_core.penalties import kl_per_token

__all__ = ["Optimizer", "UpdateResult", "UpdateStats", "update"]


class Optimizer(Protocol):
    """An optimizer: one of torch's, or a wrapper of one."""

    @property
    def param_groups(self) -> list[dict[str, Any]]: ...
    def step(self) -> object: ...
    def zero_grad(self, set_to_none: bool = True) -> object: ...


@dataclass(frozen=True, kw_only=True)
class UpdateStats:
    """Numbers of an update, None where one was not measured.

    ``grad_norm``: before clipping. ``kl``: to the penalty's reference, in nats per trained token. ``step_kl``: how
    far the update moved the policy, in nats per token; ``step_kl_total``: summed since the campaign's start;
    ``step_limit``: the most it might, with measured steps; ``step_scale``: share of the optimizer's step that was
    taken; ``step_shortened``: how often it was cut back. ``clip_share``: share of trained tokens at which the
    algorithm's clip decided (0 without a clip). ``mismatch_kl``: KL(sampler || trainer) in nats per trained token, by
    k3 from the sampler's log-probabilities and those that the first epoch computes; not measured for samples of an
    earlier policy.
    """

    loss: float | None = None
    grad_norm: float | None = None
    kl: float | None = None
    step_kl: float | None = None
    step_kl_total: float | None = None
    step_limit: float | None = None
    step_scale: float | None = None
    step_shortened: int | None = None
    clip_share: float | None = None
    mismatch_kl: float | None = None


@dataclass(frozen=True, kw_only=True)
class UpdateResult(UpdateStats):
    """What an update did. ``steps``: gradient steps taken, fewer than ``optim.epochs`` when one was not finite.

    ``finite``: whether any was taken. The numbers are those of the last step taken, or of the rejected step if none
    was.
    ``taught``: share of the judged samples that had an advantage.
    """

    finite: bool
    steps: int
    taught: float = 0.0

    def stats(self) -> UpdateStats:
        """The numbers that describe a step that was taken; a rejected one has neither loss nor norm."""
        numbers = {f.name: getattr(self, f.name) for f in fields(UpdateStats)}
        return UpdateStats(**numbers if self.finite else numbers | {"loss": None, "grad_norm": None})


@dataclass(frozen=True, kw_only=True)
class _Sequences:
    """U unique sequences of a step; ``weights`` counts how many of the N each stands for.

    ``sampled``: the sampler's log-probabilities. ``old``: what the ratios compare with; None until the first epoch has
    computed it.
    """

    prompts: list[list[int]]
    tokens: list[list[int]]
    sampled: list[Tensor]
    old: list[Tensor | None]
    advantages: Tensor
    weights: Tensor


@dataclass(kw_only=True)
class _Sums:
    """Over all sequences so far, by weight: loss, and sums over tokens of what an ``UpdateResult`` has means of."""

    loss: float = 0.0
    kl: float = 0.0
    clipped: float = 0.0
    mismatch: float = 0.0


def update(
    engine: Engine,
    optimizer: Optimizer,
    batch: Batch,
    objective: Objective,
    optim: OptimConfig,
    ranks: Ranks = ALONE,
) -> UpdateResult:
    """Take ``optim.epochs`` gradient steps on one batch, for the policy in ``engine``.

    A sequence without a verdict trains nothing, nor does a group without any advantage (equal rewards, as a rule), not
    through penalty or bonus either; the means of the loss are over all sequences that
    were judged. A step whose loss or gradient norm is not finite is not taken, nor any after it. Every process of
    ``ranks`` is given the whole batch; each computes its share of the micro-batches, and gradients are summed.
    """
    policy, algorithm = engine.policy, objective.algorithm
    rollout, valid_PG = batch.rollout, batch.valid_PG
    advantages_PG = algorithm.advantages(batch.rewards_PG, valid_PG)
    lengths_PG = torch.tensor(rollout.lengths, dtype=torch.float32).view_as(batch.rewards_PG)
    counts = Counts(sequences=max(float(valid_PG.sum()), 1.0), tokens=max(float((lengths_PG * valid_PG).sum()), 1.0))
    trained_PG = valid_PG & (advantages_PG != 0)
    if objective.acts_without_advantage:
        trained_PG = valid_PG & trained_PG.any(1, keepdim=True)
    unique = _deduplicate(rollout, advantages_PG.flatten(), trained_PG.flatten(), objective.on_policy)
    trained_tokens = float((lengths_PG * trained_PG).sum())
    gradients = Gradients([p for p in policy.model.parameters() if p.requires_grad])
    stepped = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
    micro_batches = _shared_out(unique, optim, ranks, all_together=policy.sharded)
    result = UpdateResult(finite=False, steps=0)
    mismatch: float | None = None
    for epoch in range(optim.epochs):
        gradients.clear()
        sums = _Sums()
        for rows, share in micro_batches:
            _backward(engine, objective, counts, unique, rows, share, sums)
            gradients.collect()
        sums = _Sums(**dict(zip(vars(sums), ranks.total(*vars(sums).values()), strict=True)))
        summed = gradients.tensors()
        if not policy.sharded:  # else they were summed in the backward pass
            ranks.all_reduce(summed)
        if objective.anchor is not None and unique.tokens:
            sums.loss += objective.anchor.pull(policy, objective.coefficient, summed)
        norm = _clip(summed, optim.max_grad_norm)
        finite = math.isfinite(sums.loss) and math.isfinite(norm)
        if epoch == 0 and objective.on_policy and trained_tokens:
            mismatch = sums.mismatch / trained_tokens
        if finite or epoch == 0:
            result = UpdateResult(
                finite=finite,
                steps=epoch + finite,
                loss=sums.loss,
                grad_norm=norm,
                kl=sums.kl / trained_tokens if objective.reference is not None and trained_tokens else None,
                clip_share=sums.clipped / trained_tokens if trained_tokens else None,
                mismatch_kl=mismatch,
                taught=float((valid_PG & (advantages_PG != 0)).sum()) / counts.sequences,
            )
        if not finite:
            break
        gradients.give(stepped)
        optimizer.step()
    gradients.clear()
    optimizer.zero_grad(set_to_none=True)
    return result


def _shared_out(
    sequences: _Sequences, optim: OptimConfig, ranks: Ranks, *, all_together: bool
) -> list[tuple[list[int], float]]:
    """This process's micro-batches, each the numbers of its rows and the weight of its gradient (1, or 0 for idling).

    ``all_together``: sharded weights are gathered by all processes at once, so all need as many passes.
    """
    batches = list(_micro_batches(sequences, min(optim.micro_batch_tokens, math.ceil(_cost(sequences) / ranks.count))))
    mine = ranks.balance(batches, [sum(len(sequences.tokens[row]) for row in rows) for rows in batches])
    weighted = [(rows, 1.0) for rows in mine]
    if all_together and batches:
        idle = max(ranks.gather([len(mine)])) - len(mine)
        weighted += [(batches[0][:1], 0.0)] * idle
    return weighted


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
        sampled=[rollout.logprobs[i] for i in rows],
        old=[None if on_policy else rollout.logprobs[i] for i in rows],
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


def _clip(gradients: Sequence[Tensor], most: float) -> float:
    """Clip the global gradient norm to ``most``; return the norm before clipping."""
    norm = torch.nn.utils.get_total_norm(gradients)
    norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    factor = (most / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor.to(gradient.device))
    return float(norm)


def _backward(
    engine: Engine,
    objective: Objective,
    counts: Counts,
    sequences: _Sequences,
    rows: list[int],
    share: float,
    sums: _Sums,
) -> None:
    """Accumulate ``share`` times the gradient of ``rows``, and the same share of their numbers in ``sums``."""
    device = engine.policy.device
    prompts, tokens = [sequences.prompts[r] for r in rows], [sequences.tokens[r] for r in rows]
    weights_N = share * sequences.weights[rows].to(device)
    scores = objective.score(engine, prompts, tokens)
    now_NT = scores.logprobs_NT.detach()
    old_NT = _old(sequences, rows, now_NT)
    losses = objective.losses(scores, prompts, tokens, old_NT, sequences.advantages[rows].to(device), counts)
    loss = (weights_N * losses.losses_N).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    sampled_NT = _padded([sequences.sampled[r] for r in rows], now_NT)
    mismatch_N = kl_per_token(sampled_NT, now_NT, scores.mask_NT, "k3").sum(1)
    sums.loss += float(loss.detach())
    sums.kl += float((weights_N * losses.kl_N).sum())
    sums.clipped += float((weights_N * losses.clipped_N).sum())
    sums.mismatch += float((weights_N * mismatch_N).sum())


def _old(sequences: _Sequences, rows: list[int], now_NT: Tensor) -> Tensor:
    """What the ratios of ``rows`` compare with (N x T); for rows that have nothing yet, ``now_NT``, which is kept."""
    known: list[Tensor] = []
    for place, row in enumerate(rows):
        old = sequences.old[row]
        if old is None:
            old = sequences.old[row] = now_NT[place, : len(sequences.tokens[row])]
        known.append(old)
    return _padded(known, now_NT)


def _padded(values: Sequence[Tensor], like_NT: Tensor) -> Tensor:
    """One row of values per sequence as N x T, 0 behind each."""
    padded_NT = torch.zeros_like(like_NT)
    for place, row in enumerate(values):
        padded_NT[place, : len(row)] = row.to(like_NT.device)
    return padded_NT
