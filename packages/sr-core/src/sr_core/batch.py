"""A step's samples with their verdicts, put together from the parts that several processes or draws gave.

Axes: P prompts, G samples per prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

__all__ = ["Batch", "Rollout", "SampleStats", "concatenate"]


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


@dataclass(frozen=True, kw_only=True)
class SampleStats:
    """Numbers of a step's samples, None where there are none.

    ``train_reward``: mean reward of the judged samples. ``entropy``: nats per token. ``length``: tokens. ``truncated``:
    share that did not end by itself. ``zero_std_groups``: share of prompts whose rewards are all equal.
    ``unique_share``: share of different completions. ``infra_errors``: samples that the grader could not judge.
    ``sampled_tokens``: all that were drawn for the step.
    """

    train_reward: float | None = None
    entropy: float | None = None
    length: float | None = None
    truncated: float | None = None
    zero_std_groups: float | None = None
    unique_share: float | None = None
    infra_errors: float | None = None
    sampled_tokens: float | None = None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A step's samples with their verdicts: P x G rewards, and where there was a verdict.

    ``first``: the step's first draw, where later ones replaced some of its groups.
    """

    rollout: Rollout
    rewards_PG: Tensor
    valid_PG: Tensor
    sampled_tokens: int
    first: Batch | None = None

    @property
    def failing(self) -> float:
        """Share of the judged samples whose reward is below their mean: of verdicts right and wrong, the wrong ones."""
        rewards = self.rewards_PG[self.valid_PG].double()  # so that the mean of equal ones is none other
        return float((rewards < rewards.mean()).double().mean()) if len(rewards) else 0.0

    def replaced(self, places: Sequence[int], other: Batch) -> Batch:
        """These samples with the groups at ``places`` taken from ``other``, in order."""
        rewards_PG, valid_PG = self.rewards_PG.clone(), self.valid_PG.clone()
        rewards_PG[places], valid_PG[places] = other.rewards_PG, other.valid_PG
        return Batch(
            rollout=_replaced(self.rollout, places, other.rollout),
            rewards_PG=rewards_PG,
            valid_PG=valid_PG,
            sampled_tokens=self.sampled_tokens + other.sampled_tokens,
            first=self.first or self,
        )

    def stats(self) -> SampleStats:
        """Numbers of the samples. Those of a first draw, where groups were replaced: what is left after choosing says
        nothing of the policy; only ``sampled_tokens`` counts every draw."""
        if self.first is not None:
            return replace(self.first.stats(), sampled_tokens=float(self.sampled_tokens))
        rollout, valid = self.rollout, self.valid_PG
        prompts, group = valid.shape
        spread = [self.rewards_PG[p][valid[p]] for p in range(prompts)]
        unique = {(i // group, tuple(t)) for i, t in enumerate(rollout.tokens)}
        return SampleStats(
            train_reward=float(self.rewards_PG[valid].mean()) if bool(valid.any()) else None,
            entropy=rollout.entropy,
            length=sum(rollout.lengths) / len(rollout.lengths),
            truncated=sum(rollout.truncated) / len(rollout.truncated),
            zero_std_groups=sum(len(r) == 0 or bool((r == r[0]).all()) for r in spread) / prompts,
            unique_share=len(unique) / len(rollout.tokens),
            infra_errors=float((~valid).sum()),
            sampled_tokens=float(self.sampled_tokens),
        )


def _replaced(rollout: Rollout, places: Sequence[int], other: Rollout) -> Rollout:
    """``rollout`` with the groups of the prompts at ``places`` taken from ``other``, in order."""
    group = rollout.group_size
    prompts, tokens = list(rollout.prompts), list(rollout.tokens)
    logprobs, truncated = list(rollout.logprobs), list(rollout.truncated)
    for i, place in enumerate(places):
        prompts[place] = other.prompts[i]
        ours, theirs = slice(place * group, (place + 1) * group), slice(i * group, (i + 1) * group)
        tokens[ours], logprobs[ours], truncated[ours] = (
            other.tokens[theirs],
            other.logprobs[theirs],
            other.truncated[theirs],
        )
    return replace(rollout, prompts=prompts, tokens=tokens, logprobs=logprobs, truncated=truncated)


def concatenate(parts: Sequence[Rollout]) -> Rollout:
    """The rollouts of consecutive prompts as one."""
    if len(parts) == 1:
        return parts[0]
    drawn = [sum(part.lengths) for part in parts]
    return Rollout(
        prompts=[prompt for part in parts for prompt in part.prompts],
        group_size=parts[0].group_size,
        tokens=[tokens for part in parts for tokens in part.tokens],
        logprobs=[values for part in parts for values in part.logprobs],
        truncated=[cut for part in parts for cut in part.truncated],
        entropy=sum(part.entropy * count for part, count in zip(parts, drawn, strict=True)) / max(sum(drawn), 1),
    )
