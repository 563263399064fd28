"""The tasks of one campaign, and the order in which they are trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sr_core.config import TrainConfig
from sr_core.errors import ConfigError
from sr_core.protocols import Task
from sr_core.seeds import rng_for

__all__ = ["CampaignTasks", "Pools", "choose", "family_of", "split"]


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


@dataclass(frozen=True, kw_only=True)
class Pools:
    """Disjoint pools that campaigns draw their tasks from; ``audit`` and ``ood`` are the same in all campaigns."""

    train: Sequence[Task]
    heldout: Sequence[Task]
    audit: Sequence[Task] = ()
    ood: Sequence[Task] = ()
    name: str

    def draws(self, *, train: int, heldout: int, seed: int) -> Callable[[int], CampaignTasks]:
        """Campaign number -> its tasks, a fresh draw each. Raises ConfigError when more are asked for than exist."""
        for key, pool, wanted in (("train", self.train, train), ("heldout", self.heldout, heldout)):
            if wanted > len(pool):
                raise ConfigError(f"tasks.{key} must be at most {len(pool)} (all that {self.name!r} has), got {wanted}")

        def draw(campaign: int) -> CampaignTasks:
            return CampaignTasks(
                train=choose(self.train, train, seed, campaign, "train tasks"),
                heldout=choose(self.heldout, heldout, seed, campaign, "heldout tasks"),
                audit=self.audit,
                ood=self.ood,
                family=family_of(self.name),
            )

        return draw


def split(tasks: Sequence[Task], name: str, *, train: int, heldout: int, audit: int, seed: int) -> Pools:
    """Pools of ``tasks`` in the proportion of the numbers asked for. Raises ConfigError when these are too many.

    A task may train in one campaign and be drawn again in the next, but never moves to the held-out pool.
    """
    if train + heldout + audit > len(tasks):
        raise ConfigError(
            f"tasks.train + tasks.heldout + tasks.audit must be at most {len(tasks)} (all that {name!r} has), "
            f"got {train} + {heldout} + {audit}"
        )
    shuffled = choose(tasks, len(tasks), seed, 0, "pools")
    rest = shuffled[audit:]
    border = round(len(rest) * train / (train + heldout))
    border = min(max(border, train), len(rest) - heldout)
    return Pools(train=rest[:border], heldout=rest[border:], audit=shuffled[:audit], name=name)


def choose(pool: Sequence[Task], count: int, seed: int, campaign: int, purpose: str) -> list[Task]:
    """``count`` tasks of ``pool``, drawn without replacement."""
    return [pool[i] for i in rng_for(seed, campaign, 0, purpose).permutation(len(pool))[:count]]


def family_of(path: str) -> str:
    """The family of the tasks of a file: its name without the endings of data files."""
    name = Path(path).name
    while (ending := Path(name).suffix) in (".gz", ".xz", ".zip", ".jsonl", ".json", ".parquet"):
        name = name.removesuffix(ending)
    return name
