"""Which of a run's policies is the best, as far as its own measurements tell.

Campaigns are usually measured on tasks drawn afresh, and the luck of a draw of thirty tasks is larger than most
differences between policies. What is known well is what each campaign changed, measured before and after on the same
tasks. So two policies are compared by the changes that lie between them: every campaign hangs from the one whose policy
it started from, and errors add up along the way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sr_care.entry import Entry

FIRST = -1  # the policy that the run began with, beside those that campaigns handed on


@dataclass(frozen=True)
class Policy:
    """A policy handed on: its pass@1 above the first one's, and the variance that each campaign on its way added."""

    level: float
    path: Mapping[int, float]


def lineage(past: Sequence[Entry], default_error: float) -> dict[int, Policy]:
    """The policies handed on by a run's campaigns, oldest first, by campaign; the last one is where the run stands.

    A campaign that did not measure pass@1 is taken to have changed nothing, give or take ``default_error``; one that
    trained nothing did change nothing.
    """
    policies = {FIRST: Policy(0.0, {})}
    for entry in past:
        newest = next(reversed(policies))
        start = policies[entry.start_from if entry.start_from in policies else newest]
        delta, variance = 0.0, 0.0
        if entry.strategy.steps > 0:
            delta = entry.delta.values.get("pass1", 0.0)
            variance = float(entry.delta.matrix()[0, 0]) if "pass1" in entry.delta.values else default_error**2
        policies[entry.campaign] = Policy(start.level + delta, {**start.path, entry.campaign: variance})
    return policies


def best(policies: Mapping[int, Policy]) -> int:
    """The campaign whose policy has the highest level, the latest of equals."""
    return max(policies, key=lambda campaign: (policies[campaign].level, campaign))


def advantage(one: Policy, other: Policy) -> tuple[float, float]:
    """How much better ``one`` is than ``other`` in pass@1, and the standard error of that."""
    apart = one.path.keys() ^ other.path.keys()
    variance = math.fsum({**one.path, **other.path}[campaign] for campaign in apart)
    return one.level - other.level, math.sqrt(variance)
