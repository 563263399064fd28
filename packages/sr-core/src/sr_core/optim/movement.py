"""How far a policy has moved: the divergence of its next token's distribution, on samples that it drew itself.

    KL(old || new) = sum over v of p_old(v) (log p_old(v) - log p_new(v)),    averaged over tokens of a rollout

The sum runs over the vocabulary, so the only noise is which tokens are averaged; estimators that know the drawn token
alone (k3, half the squared log-ratio) need many more tokens for the same precision (``benchmarks/step_size.py``
compares them). Temperature is the sampling's; ``top_p`` is not applied, since a nucleus that loses a token makes the
divergence infinite.

Axes: N measured completions, T their tokens, V vocabulary, K tokens whose probabilities are kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sr_core.batch import Rollout
from sr_core.distributed.process_group import ALONE, Ranks
from sr_core.engine import Engine
from sr_core.engine.fsdp import unsharded
from sr_core.engine.scoring import LOGIT_CHUNK

__all__ = ["Probe", "probe_rows"]

KEPT = 256  # likeliest tokens of a place that are kept one by one; the rest is one event, which can only lower the KL
SHARE = 1 / 8  # of a rollout's tokens, prompts included, that are measured ...
LEAST = 256  # ... but no fewer than these, where there are as many


def probe_rows(rollout: Rollout, share: float = SHARE, least: int = LEAST) -> list[int]:
    """Completions to measure: one of each prompt, then a second of each, until a share of the tokens is reached.

    Where one of each is too much already, prompts at even distances. Depends on the rollout's lengths only.
    """
    prompts, group = len(rollout.prompts), rollout.group_size
    cost = sum(map(len, rollout.prompts)) + sum(rollout.lengths)
    budget = max(share * cost, least)
    stride = _coprime_stride(prompts)
    chosen: list[int] = []
    spent = 0
    for turn in range(group):
        for place in range(prompts):
            prompt = place * stride % prompts
            row = prompt * group + turn
            spent += rollout.lengths[row] + (0 if turn else len(rollout.prompts[prompt]))
            if chosen and spent > budget:
                return sorted(chosen)
            chosen.append(row)
    return sorted(chosen)


class Probe:
    """Remembers the distributions of the policy as it is now, at some of a rollout's tokens, and measures how far it
    has moved since.

    On several processes each measures its part, and all come to the same number. It costs a forward pass over an eighth
    of the rollout when it is made and one for every measurement, and holds ``KEPT`` numbers per token.
    """

    def __init__(
        self, engine: Engine, rollout: Rollout, *, temperature: float, ranks: Ranks = ALONE, share: float = SHARE
    ) -> None:
        self.engine, self.temperature, self.ranks = engine, temperature, ranks
        rows = probe_rows(rollout, share)
        part = ranks.share(len(rows))
        mine = rows[part.start : part.stop]
        self._prompts = [rollout.prompts[row // rollout.group_size] for row in mine]
        self._tokens = [rollout.tokens[row] for row in mine]
        self._before = [_Kept(logprobs_NV) for logprobs_NV in self._logprobs()]

    def moved(self) -> float:
        """Mean KL(old || new) in nats per token; infinite where it is not finite."""
        total, count = 0.0, 0.0
        for kept, logprobs_NV in zip(self._before, self._logprobs(), strict=True):
            divergence_N = kept.divergence(logprobs_NV)
            total += float(divergence_N.double().sum())
            count += len(divergence_N)
        total, count = self.ranks.total(total, count)
        mean = total / max(count, 1.0)
        return mean if math.isfinite(mean) else math.inf

    def _logprobs(self) -> Iterator[Tensor]:
        """Log-probabilities (N x V) at the measured tokens, a chunk at a time."""
        policy = self.engine.policy
        with unsharded(policy), torch.no_grad():
            for prompts, tokens in _batches(self._prompts, self._tokens):
                for hidden in torch.split(self.engine.states(prompts, tokens), LOGIT_CHUNK):
                    yield (policy.logits(hidden) / self.temperature).log_softmax(1)


class _Kept:
    """The ``KEPT`` likeliest tokens of distributions (N x V), and the total probability of the rest."""

    def __init__(self, logprobs_NV: Tensor) -> None:
        self.ids_NK: Tensor | None = None
        if logprobs_NV.shape[1] > KEPT:
            self.ids_NK = logprobs_NV.topk(KEPT, dim=1).indices
        self.logprobs_NK = self._coarse(logprobs_NV)

    def divergence(self, logprobs_NV: Tensor) -> Tensor:
        """KL(kept || these) per token (N); a lower bound, since the rest counts as one event."""
        before = self.logprobs_NK
        terms = before.exp() * (before - self._coarse(logprobs_NV))
        return terms.masked_fill(before == -torch.inf, 0).sum(1).clamp(min=0)

    def _coarse(self, logprobs_NV: Tensor) -> Tensor:
        if self.ids_NK is None:
            return logprobs_NV
        rest_N = logprobs_NV.scatter(1, self.ids_NK, -torch.inf).logsumexp(1)
        return torch.cat([logprobs_NV.gather(1, self.ids_NK), rest_N[:, None]], dim=1)


def _batches(prompts: Sequence[list[int]], tokens: Sequence[list[int]]) -> Iterator[tuple[list[list[int]], ...]]:
    """Completions in batches of at most ``LOGIT_CHUNK`` tokens, a prompt and its completions together."""
    first, size = 0, 0
    for i in range(len(tokens)):
        cost = len(tokens[i]) + (len(prompts[i]) if i == first or prompts[i] != prompts[i - 1] else 0)
        if size and size + cost > LOGIT_CHUNK:
            yield list(prompts[first:i]), list(tokens[first:i])
            first, size = i, 0
            cost = len(tokens[i]) + len(prompts[i])
        size += cost
    if first < len(tokens):
        yield list(prompts[first:]), list(tokens[first:])


def _coprime_stride(count: int) -> int:
    """A stride, near the golden section, that visits all of ``count`` places and neighbours late."""
    stride = max(1, round(count * 0.618))
    while math.gcd(stride, count) != 1:
        stride += 1
    return stride
