"""Early stopping as the paper deployed it, in both readings: baselines for a better guard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sr_monitor.analysis.counts import Counts
from sr_monitor.errors import MonitorError
from sr_monitor.guard.decision import Decision, Request, first_non_finite

MODES = ("next_budget", "patience")


class EarlyStop:
    """ES of arXiv 2606.21090: evaluate every step, keep the checkpoint of the best evaluation.

    mode ``next_budget``: the campaign runs to its end, the next one gets ``peak_step + patience`` steps.
    mode ``patience``: the campaign stops ``patience`` steps after its peak, which is ordinary patience; only
    an evaluation more than ``min_delta`` above the best counts as a new one.
    patience: steps (the paper's 3). samples: per held-out task. every: steps between evaluations.
    Non-finite signals stop the campaign at once. No error rate is stated: a policy that never changes is
    stopped, too.
    """

    lr_scale: float = 1.0
    reset_optimizer: bool = True

    def __init__(
        self,
        *,
        mode: str = "next_budget",
        patience: int = 3,
        min_delta: float = 0.0,
        samples: int = 16,
        every: int = 1,
    ) -> None:
        if mode not in MODES:
            raise MonitorError(f"early stop: mode must be one of {', '.join(MODES)}, got {mode!r}")
        for name, value in (("patience", patience), ("samples", samples), ("every", every)):
            if value < 1:
                raise MonitorError(f"early stop: {name} must be at least 1, got {value}")
        if not 0 <= min_delta < 1:
            raise MonitorError(f"early stop: min_delta is a pass@1 in [0, 1), got {min_delta}")
        self.mode, self.patience, self.min_delta = mode, patience, min_delta
        self.samples, self.every = samples, every
        self._budget: int | None = None
        self._last_peak_step: int | None = None
        self._clear()

    def _clear(self) -> None:
        self._tasks: int | None = None
        self._seen = -1  # last evaluated step
        self._value = 0.0
        self._peak = 0.0
        self._peak_step = 0

    def begin(self, campaign: int, steps: int, tasks: int | None = None) -> int:
        """A campaign of at most ``steps`` starts; returns its budget in steps."""
        del tasks
        if self._seen >= 0:
            self._last_peak_step = self._peak_step
        self._clear()
        self._budget = steps
        if self.mode == "next_budget" and self._last_peak_step is not None:
            self._budget = min(steps, self._last_peak_step + self.patience)
        return self._budget

    def ask(self, step: int) -> Request | None:
        due = step % self.every == 0 or step == self._budget
        return Request(step=step, samples=self.samples) if due and step > self._seen else None

    def tell(self, step: int, passes: Sequence[int], samples: int, tasks: Sequence[int] | None = None) -> None:
        counts = Counts.of(passes, samples, tasks, self._tasks)
        first = self._seen < 0
        self._tasks, self._seen, self._value = len(counts.samples_M), step, counts.pass1
        if first or self._value > self._peak + self.min_delta:
            self._peak, self._peak_step = self._value, step

    def decide(self, step: int, signals: Mapping[str, float | None]) -> Decision:
        broken = first_non_finite(signals)
        if broken is not None:
            return Decision(action="stop", rule="non_finite", reason=f"{broken} is not finite at step {step}.")
        if self._seen < step:
            return Decision(action="continue", rule="not_evaluated", reason=f"Step {step} was not evaluated.")
        since = step - self._peak_step
        stop = self.mode == "patience" and since >= self.patience
        return Decision(
            action="stop" if stop else "continue",
            rule=self.mode,
            value=float(since) if self.mode == "patience" else self._value,
            limit=float(self.patience) if self.mode == "patience" else None,
            reason=f"pass@1 is {self._value:.3f}; the best was {self._peak:.3f} at step {self._peak_step}, "
            f"{since} steps ago.",
        )

    def step(self, step: int, passes: Sequence[int], samples: int, **signals: float | None) -> Decision:
        """``tell`` and ``decide`` in one, for a hand-written loop."""
        self.tell(step, passes, samples)
        return self.decide(step, signals)

    def retained(self) -> frozenset[int]:
        """Steps whose checkpoints must stay available."""
        return frozenset({self._peak_step})

    def kept(self) -> int:
        """The step whose policy is kept: the best single evaluation."""
        return self._peak_step

    def state_dict(self) -> dict[str, Any]:
        """JSON-able; ``load_state_dict`` brings back a guard that answers the same from here on."""
        return {
            "budget": self._budget,
            "last_peak_step": self._last_peak_step,
            "tasks": self._tasks,
            "seen": self._seen,
            "value": self._value,
            "peak": self._peak,
            "peak_step": self._peak_step,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name in self.state_dict():
            if name not in state:
                raise MonitorError(f"early stop: the saved state lacks {name!r}; it is not one of this class")
            setattr(self, f"_{name}", state[name])
