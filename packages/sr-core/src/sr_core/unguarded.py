"""A guard and a planner that decide nothing by evaluations: continue always, and budgets fixed beforehand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sr_core.protocols import Decision, Request

__all__ = ["Schedule", "Unguarded"]


@dataclass(frozen=True, kw_only=True)
class _Request:
    step: int
    samples: int
    tasks: None = None


@dataclass(frozen=True, kw_only=True)
class _Continue:
    action: Literal["continue"] = "continue"
    rule: str = "none"
    value: float | None = None
    limit: float | None = None
    reason: str = "no guard watches this run"
    to_step: int | None = None
    lr_factor: float = 1.0
    reset_optimizer: bool = False


class Unguarded:
    """Asks for ``samples`` per held-out task after every ``every`` steps and at the last one; 0 asks for nothing."""

    def __init__(self, *, every: int = 1, samples: int = 16) -> None:
        self.every = every
        self.samples = samples
        self._budget = self._step = 0
        self._told = -1

    lr_scale = 1.0
    reset_optimizer = True

    def begin(self, campaign: int, steps: int, tasks: int | None = None) -> int:
        del campaign, tasks
        self._budget, self._step, self._told = steps, 0, -1
        return steps

    def ask(self, step: int) -> Request | None:
        self._step = step
        due = step % self.every == 0 or step == self._budget
        return _Request(step=step, samples=self.samples) if due and self._told < step and self.samples else None

    def tell(self, step: int, passes: Sequence[int], samples: int, tasks: Sequence[int] | None = None) -> None:
        del passes, samples, tasks
        self._told = step

    def decide(self, step: int, signals: Mapping[str, float | None]) -> Decision:
        del signals
        self._step = step
        return _Continue()

    def retained(self) -> frozenset[int]:
        return frozenset()

    def kept(self) -> int:
        return self._step

    def state_dict(self) -> dict[str, Any]:
        return {"budget": self._budget, "step": self._step, "told": self._told}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._budget, self._step, self._told = state["budget"], state["step"], state["told"]


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
