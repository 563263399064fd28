"""What a guard asks for and what it answers. Both are plain values a trainer can log and act on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from sr_monitor.errors import MonitorError

Action = Literal["continue", "stop", "roll_back"]
ACTIONS = ("continue", "stop", "roll_back")

# Where steps stand for the means of a campaign's iterates, this names the last iterate itself.
LAST_ITERATE = -1

# NaN or infinity in one of these has broken the policy, or is about to. Other signals may be NaN for harmless
# reasons (the mean over no group at all).
VITAL_SIGNALS = ("loss", "grad_norm", "entropy", "kl", "train_reward")


@dataclass(frozen=True, kw_only=True)
class Request:
    """An evaluation the guard wants now.

    step: whose policy: the current step, one in ``retained()``, or ``LAST_ITERATE``. samples: per task. tasks: indices
    into the held-out set, or None for all. fresh: not the first samples of that policy, new ones are wanted. Policies
    asked for so at one step are compared with each other: draw them with the same random numbers where you can, so that
    less of a difference is luck.
    """

    step: int
    samples: int
    tasks: tuple[int, ...] | None = None
    fresh: bool = False


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to do after a step, and why.

    action: ``continue``, ``stop`` (the campaign ends, ``kept()`` names the policy to end with), or
    ``roll_back`` (load the policy of ``to_step``, multiply the learning rate by ``lr_factor``, and forget the
    optimizer's moments if ``reset_optimizer``; the next executed update is still step + 1).
    rule, value, limit: what was compared; ``value`` beyond ``limit`` is what made the rule fire.
    reason: the same as a sentence.
    """

    action: Action
    rule: str
    reason: str
    value: float | None = None
    limit: float | None = None
    to_step: int | None = None
    lr_factor: float = 1.0
    reset_optimizer: bool = False

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise MonitorError(f"decision: action must be one of {', '.join(ACTIONS)}, got {self.action!r}")
        if (self.action == "roll_back") != (self.to_step is not None):
            raise MonitorError(f"decision: to_step goes with roll_back, got {self.action!r} and {self.to_step!r}")


@runtime_checkable
class Guard(Protocol):
    """The shape of a guard. A trainer calls begin, then per step: ask and tell until None, then decide.

    ``tasks`` of ``begin`` is the number of held-out tasks, None where unknown. ``reset_optimizer``: whether a rollback
    forgets the optimizer's moments. ``lr_scale``: what the next campaign's learning rate is multiplied by.
    """

    @property
    def lr_scale(self) -> float: ...
    @property
    def reset_optimizer(self) -> bool: ...
    def begin(self, campaign: int, steps: int, tasks: int | None = None) -> int: ...
    def ask(self, step: int) -> Request | None: ...
    def tell(self, step: int, passes: Sequence[int], samples: int, tasks: Sequence[int] | None = None) -> None: ...
    def decide(self, step: int, signals: Mapping[str, float | None]) -> Decision: ...
    def retained(self) -> frozenset[int]: ...
    def kept(self) -> int: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


def first_non_finite(signals: Mapping[str, float | None]) -> str | None:
    """Name of the first vital signal that is NaN or infinite, else None; ``finite`` = 0 says so of the policy."""
    finite = signals.get("finite")
    if finite is not None and not finite:
        return "the policy"
    for name in VITAL_SIGNALS:
        value = signals.get(name)
        if value is not None and not math.isfinite(value):
            return name
    return None
