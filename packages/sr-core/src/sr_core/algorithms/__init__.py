"""One algorithm, one file: its advantages and its loss. ``make_algorithm`` finds them by name.

An algorithm sees the rewards of a step as P x G (P prompts, G samples each) and gives one advantage per sequence; its
loss is a *sum* over the sequences of a micro-batch, already divided by the ``Counts`` of the whole step, so that
micro-batches and processes add up to one big batch. To add one: write the file, add a line to ``ALGORITHMS``, and its
options to ``sr_core.algorithm_config``.
"""

from __future__ import annotations

from collections.abc import Callable

from sr_core.algorithm_config import AlgorithmConfig
from sr_core.algorithms.asymre import AsymRE
from sr_core.algorithms.base import Algorithm, Counts, LossInputs, LossOutputs
from sr_core.algorithms.cispo import Cispo
from sr_core.algorithms.dapo import Dapo
from sr_core.algorithms.dr_grpo import DrGrpo
from sr_core.algorithms.grpo import Grpo
from sr_core.algorithms.gspo import Gspo
from sr_core.algorithms.reinforce import Reinforce
from sr_core.algorithms.reinforce_pp import ReinforcePlusPlus
from sr_core.algorithms.rloo import Rloo
from sr_core.algorithms.topr import Topr
from sr_core.algorithms.wapo import Wapo

__all__ = [
    "ALGORITHMS",
    "Algorithm",
    "AsymRE",
    "Cispo",
    "Counts",
    "Dapo",
    "DrGrpo",
    "Grpo",
    "Gspo",
    "LossInputs",
    "LossOutputs",
    "Reinforce",
    "ReinforcePlusPlus",
    "Rloo",
    "Topr",
    "Wapo",
    "make_algorithm",
]

ALGORITHMS: dict[str, Callable[..., Algorithm]] = {
    "reinforce": Reinforce,
    "reinforce++": ReinforcePlusPlus,
    "rloo": Rloo,
    "grpo": Grpo,
    "dr_grpo": DrGrpo,
    "dapo": Dapo,
    "gspo": Gspo,
    "cispo": Cispo,
    "wapo": Wapo,
    "topr": Topr,
    "asymre": AsymRE,
}
BY_BUDGET = ("dr_grpo", "wapo")  # their losses are divided by ``max_tokens``


def make_algorithm(config: AlgorithmConfig, *, max_tokens: int) -> Algorithm:
    """The algorithm of ``config``, a variant of ``[algorithm]``; ``max_tokens``: the longest completion allowed."""
    budget = {"max_tokens": max_tokens} if config.name in BY_BUDGET else {}
    return ALGORITHMS[config.name](**config.options(), **budget)
