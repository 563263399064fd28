"""Which of a run's policies is the best to go on from, as far as its own measurements tell.

What a policy is worth for that is its ``merit``, a weighted sum of capabilities: not pass@1 alone, because a policy
whose samples have become all alike may score as before and can learn little more.

Campaigns are usually measured on fresh tasks, and the variance of drawing thirty tasks exceeds most
differences between policies. What is known well is what each campaign changed, measured before and after on the same
tasks. So two policies are compared by the changes that lie between them: every campaign hangs from the one whose policy
it started from, and errors add up along the way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sr_care.entry import CapabilityDelta, Entry

FIRST = -1  # the policy that the run began with, beside those that campaigns kept


@dataclass(frozen=True)
class Policy:
    """A kept policy: its merit above the first one's, and the variance that each campaign on its way added."""

    level: float
    path: Mapping[int, float]


def lineage(past: Sequence[Entry], merit: Mapping[str, float], default_error: float) -> dict[int, Policy]:
    """The policies kept by a run's campaigns, oldest first, by campaign; the last one is where the run stands.

    ``merit``: the weight of each capability; one that a campaign did not measure is taken as unchanged. A campaign that
    measured none of them is taken to have changed nothing, give or take ``default_error``; one that trained nothing
    did change nothing.
    """
    policies = {FIRST: Policy(0.0, {})}
    for entry in past:
        newest = next(reversed(policies))
        start = policies[entry.start_from if entry.start_from in policies else newest]
        delta, variance = 0.0, 0.0
        if entry.strategy.steps > 0:
            delta, variance = _gain(entry.delta, merit) or (0.0, default_error**2)
        policies[entry.campaign] = Policy(start.level + delta, {**start.path, entry.campaign: variance})
    return policies


def _gain(delta: CapabilityDelta, merit: Mapping[str, float]) -> tuple[float, float] | None:
    """The change of merit and its variance; None where nothing of it was measured."""
    if not delta.values.keys() & merit.keys():
        return None
    weights = np.array([merit.get(name, 0.0) for name in delta.values])
    return float(weights @ list(delta.values.values())), float(weights @ np.array(delta.covariance) @ weights)


def best(policies: Mapping[int, Policy]) -> int:
    """The campaign whose policy has the highest level, the latest of equals."""
    return max(policies, key=lambda campaign: (policies[campaign].level, campaign))


def advantage(one: Policy, other: Policy) -> tuple[float, float]:
    """How much more merit ``one`` has than ``other``, and the standard error of that."""
    apart = one.path.keys() ^ other.path.keys()
    variance = math.fsum({**one.path, **other.path}[campaign] for campaign in apart)
    return one.level - other.level, math.sqrt(variance)
