"""One algorithm, one file: its advantages and its loss. ``make_algorithm`` finds them by name.

An algorithm sees the rewards of a step as P x G (P prompts, G samples each) and gives one advantage per sequence; its
loss is a *sum* over the sequences of a micro-batch, already divided by the ``Counts`` of the whole step, so that
micro-batches and processes add up to one big batch. To add one: write the file, add a line to ``ALGORITHMS`` and the
name to ``AlgorithmConfig.name``.
"""

from __future__ import annotations

from collections.abc import Callable

from sr_core.algorithms.asymre import AsymRE
from sr_core.algorithms.base import Algorithm, Counts
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
from sr_core.config import AlgorithmConfig

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
    "Reinforce",
    "ReinforcePlusPlus",
    "Rloo",
    "Topr",
    "Wapo",
    "make_algorithm",
]

# name -> what makes it, and the keys it reads; a key that is left out has the algorithm's own default
ALGORITHMS: dict[str, tuple[Callable[..., Algorithm], tuple[str, ...]]] = {
    "reinforce": (Reinforce, ("baseline", "ema_decay")),
    "reinforce++": (ReinforcePlusPlus, ("clip", "clip_high")),
    "rloo": (Rloo, ("clip", "clip_high")),
    "grpo": (Grpo, ("clip", "clip_high")),
    "dr_grpo": (DrGrpo, ("clip", "clip_high", "max_tokens")),
    "dapo": (Dapo, ("clip", "clip_high")),
    "gspo": (Gspo, ("clip", "clip_high")),
    "cispo": (Cispo, ("clip_high",)),
    "wapo": (Wapo, ("clip_high", "max_tokens")),
    "topr": (Topr, ()),
    "asymre": (AsymRE, ("shift",)),
}


def make_algorithm(config: AlgorithmConfig, *, max_tokens: int) -> Algorithm:
    """The algorithm that ``config`` names; ``max_tokens``: the most tokens a completion may have."""
    make, keys = ALGORITHMS[config.name]
    values = {
        "baseline": config.baseline,
        "ema_decay": config.ema_decay,
        "clip": config.clip,
        "clip_high": config.clip_high,
        "shift": config.baseline_shift,
        "max_tokens": max_tokens,
    }
    return make(**{key: values[key] for key in keys if values[key] is not None})
