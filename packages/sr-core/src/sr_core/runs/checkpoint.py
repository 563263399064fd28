"""A checkpoint in memory: the state of a campaign at the end of a step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

__all__ = ["Checkpoint", "Weights"]

Weights = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a campaign needs to continue: ``state`` (JSON), ``trainer`` (tensors too), its weights now, and those of
    ``retained`` steps.

    ``positions``: of each retained step, what else a roll-back to it restores (tensors too). ``earlier``: policies that
    earlier campaigns kept, by campaign.
    """

    campaign: int
    step: int
    state: dict[str, Any]
    trainer: dict[str, Any]
    weights: Weights
    retained: dict[int, Weights]
    positions: dict[int, dict[str, Any]] = field(default_factory=dict)
    earlier: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)

    def mapped(self, change: Callable[[Any], Any]) -> Checkpoint:
        """This checkpoint with ``change`` (to full tensors or to one process's rows) applied to all that is sharded."""
        trainer = self.trainer | {key: change(self.trainer.get(key)) for key in ("optimizer", "mean")}
        positions = {
            step: position | {key: change(position[key]) for key in ("optimizer",) if key in position}
            for step, position in self.positions.items()
        }
        return replace(
            self,
            trainer=trainer,
            positions=positions,
            **{name: change(getattr(self, name)) for name in ("weights", "retained", "earlier")},
        )
