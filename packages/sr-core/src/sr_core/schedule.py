"""A planner whose budgets are fixed beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Schedule"]


@dataclass(frozen=True, kw_only=True)
class _Plan:
    steps: int
    lr: float
    action: str = "reuse"
    penalty: float | None = None
    start_from: Literal["kept"] = "kept"
    reason: str = "budgets were fixed beforehand"


class Schedule:
    """Gives campaign k ``budgets[k]`` steps, and the last budget to all that follow; 0 leaves the policy as it is."""

    def __init__(self, budgets: Sequence[int]) -> None:
        self.budgets = list(budgets)

    def plan(self, campaign: int, context: Mapping[str, Any]) -> _Plan:
        """The campaign's budget, at the configured learning rate."""
        return _Plan(steps=self.budgets[min(campaign, len(self.budgets) - 1)], lr=context["strategy"]["lr"])

    def retained(self, campaign: int) -> frozenset[int]:
        """It never goes back."""
        del campaign
        return frozenset()

    def record(self, campaign: int, outcome: Mapping[str, Any]) -> None:
        """It learns nothing."""
