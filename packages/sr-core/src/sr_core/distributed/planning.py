"""A planner on several processes: the first process has it, since its memory is one file, and the others ask there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sr_core.distributed.process_group import Ranks
from sr_core.protocols import Plan, Planner

__all__ = ["shared_planner"]


class _FirstsPlanner:
    """The first process's planner, as all processes see it."""

    def __init__(self, planner: Planner | None, ranks: Ranks) -> None:
        self.planner, self.ranks = planner, ranks

    def plan(self, campaign: int, context: Mapping[str, Any]) -> Plan:
        plan: Plan = self._ask(lambda planner: planner.plan(campaign, context))
        return plan

    def retained(self, campaign: int) -> frozenset[int]:
        retained: frozenset[int] = self._ask(lambda planner: planner.retained(campaign))
        return retained

    def record(self, campaign: int, outcome: Mapping[str, Any]) -> None:
        self._ask(lambda planner: planner.record(campaign, outcome))

    def _ask(self, question: Callable[[Planner], Any]) -> Any:
        with self.ranks.sync_errors():
            answer = None if self.planner is None else question(self.planner)
        return self.ranks.broadcast(answer)


def shared_planner(planner: Planner | None, ranks: Ranks) -> Planner | None:
    """``planner`` for all processes; only the first one need give it."""
    if ranks.count == 1:
        return planner
    return _FirstsPlanner(planner, ranks) if ranks.broadcast(planner is not None) else None
