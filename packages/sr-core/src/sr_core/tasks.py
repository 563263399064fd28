"""The tasks of one campaign, and the order in which they are trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sr_core.config import TrainConfig
from sr_core.errors import ConfigError
from sr_core.protocols import Task
from sr_core.seeds import rng_for

__all__ = ["CampaignTasks"]


@dataclass(frozen=True, kw_only=True)
class CampaignTasks:
    """Tasks of one campaign: to train on, to decide on (``heldout``), and to report on (``audit``, may be empty).

    ``ood``, may be empty: the same in all campaigns, of families that none of the others has; a chain with a planner
    measures every kept policy on them. ``family`` names the tasks to a planner.
    """

    train: Sequence[Task]
    heldout: Sequence[Task]
    audit: Sequence[Task] = ()
    ood: Sequence[Task] = ()
    family: str | None = None

    def __post_init__(self) -> None:
        for name in ("train", "heldout"):
            if not getattr(self, name):
                raise ConfigError(f"tasks.{name} must have at least 1 task, got 0")

    def draw(self, config: TrainConfig, campaign: int, step: int) -> list[Task]:
        """The step's tasks (steps count from 1): epoch after epoch, each in an order of its own."""
        prompts = config.sampling.prompts
        places = range((step - 1) * prompts, step * prompts)
        orders: dict[int, Sequence[int]] = {}
        for place in places:
            epoch = place // len(self.train)
            if epoch not in orders:
                orders[epoch] = rng_for(config.seed, campaign, epoch, "order").permutation(len(self.train)).tolist()
        return [self.train[orders[place // len(self.train)][place % len(self.train)]] for place in places]
