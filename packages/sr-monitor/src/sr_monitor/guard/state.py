"""What a guard remembers of the campaign in progress."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from sr_monitor.analysis.counts import Counts
from sr_monitor.errors import MonitorError


@dataclass
class CampaignState:
    """What a guard remembers of one campaign; its size does not grow with the number of steps."""

    number: int = 0
    steps: int | None = None
    asked: bool = False  # the trainer asks, so that fresh samples can be had
    spent: int = 0  # samples told, tasks times samples per task
    tasks: int | None = None  # held-out tasks
    counts: dict[int, Counts] = field(default_factory=dict)  # all samples of the steps still of interest
    fresh: dict[int, Counts] = field(
        default_factory=dict
    )  # those drawn after the last evaluation, or suspicion, of the step
    since: list[Counts] = field(default_factory=list)  # of the policies since the suspicion, oldest first
    scores: dict[int, float] = field(default_factory=dict)  # robust pass@1 of the start and of the peak
    rates: dict[int, tuple[float, float]] = field(default_factory=dict)  # the last two evaluations on this branch
    drift: float | None = None  # variance by which pass@1 moves between evaluations
    start: int = 0
    evaluated: int = -1  # the last evaluated step
    evaluations: int = 0  # after the first
    suspected: int | None = None  # the step that the last evaluations seem to have fallen from
    rewards: list[float] = field(default_factory=list)  # the last training rewards on this branch, oldest first
    reward_peak: float | None = None  # the best of their means of two, but for those that overlap the last
    reward_moves: tuple[float, int] = (0.0, 0)  # sum of squares of their changes from step to step, and how many
    slump: bool = False  # they lie low enough for an evaluation before the next one is due
    wanted: tuple[int, ...] = ()  # steps to be sampled afresh before the decision
    wanted_samples: int = 0  # per task
    completing: bool = False  # what is wanted is the rest of the first evaluation
    tests: int = 0  # comparisons on fresh samples so far
    rollbacks: int = 0
    lr_scale: float = 1.0  # what all rollbacks so far, of earlier campaigns too, have left of the learning rate

    def best(self) -> int:
        """The scored step with the highest score; the later of equals, which kept more of the training."""
        return max(self.scores, key=lambda step: (self.scores[step], step), default=self.start)

    def keep_only(self, steps: Collection[int]) -> None:
        self.counts = {step: counts for step, counts in self.counts.items() if step in steps}

    def to_json(self) -> dict[str, Any]:
        state = dict(vars(self))
        for name in _BY_STEP:  # JSON has no integer keys
            state[name] = [[step, _plain(value)] for step, value in state[name].items()]
        return {
            **state,
            "wanted": list(self.wanted),
            "reward_moves": list(self.reward_moves),
            "since": [counts.to_json() for counts in self.since],
        }

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> CampaignState:
        names = {f.name for f in fields(cls)}
        nothing = cls().to_json()
        state = {_RENAMED.get(name, name): value for name, value in state.items()}
        state = {**{name: nothing[name] for name in _ADDED}, **state}
        if set(state) != names:
            odd = ", ".join(sorted(set(state) ^ names))
            raise MonitorError(f"guard: the saved state is not one of this class, {odd} differ; start anew")
        back = {name: dict(state[name]) for name in _BY_STEP}
        for name in ("counts", "fresh"):
            back[name] = {step: Counts.from_json(value) for step, value in back[name].items()}
        back["rates"] = {step: tuple(rate) for step, rate in back["rates"].items()}
        moves = tuple(state["reward_moves"])
        since = [Counts.from_json(value) for value in state["since"]]
        return cls(**{**state, **back, "wanted": tuple(state["wanted"]), "reward_moves": moves, "since": since})


_BY_STEP = ("counts", "fresh", "scores", "rates")
_RENAMED = {"looked": "evaluated", "looks": "evaluations"}  # in states saved earlier
_ADDED = ("rewards", "reward_peak", "reward_moves", "slump", "completing")  # states saved earlier lack them


def _plain(value: Any) -> Any:
    if isinstance(value, Counts):
        return value.to_json()
    return list(value) if isinstance(value, tuple) else value
