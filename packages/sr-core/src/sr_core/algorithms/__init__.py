"""One algorithm, one file: its advantages and its loss. ``make_algorithm`` finds them by name.

An algorithm sees the rewards of a step as P x G (P prompts, G samples each) and gives one advantage per sequence; its
loss is a *sum* over the sequences of a micro-batch, already divided by the ``Counts`` of the whole step, so that
micro-batches and processes add up to one big batch. To add one: write the file, add a line to ``ALGORITHMS`` and the
name to ``AlgorithmConfig.name``.
"""

from __future__ import annotations

from collections.abc import Callable

from sr_core.algorithms.base import Algorithm, Counts
from sr_core.algorithms.grpo import Grpo
from sr_core.algorithms.reinforce import Reinforce
from sr_core.config import AlgorithmConfig

__all__ = ["ALGORITHMS", "Algorithm", "Counts", "Grpo", "Reinforce", "make_algorithm"]

ALGORITHMS: dict[str, Callable[[AlgorithmConfig], Algorithm]] = {
    "reinforce": lambda c: Reinforce(baseline=c.baseline, ema_decay=c.ema_decay),
    "grpo": lambda c: Grpo(clip=c.clip),
}


def make_algorithm(config: AlgorithmConfig) -> Algorithm:
    """The algorithm that ``config`` names."""
    return ALGORITHMS[config.name](config)
