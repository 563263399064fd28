"""How a rule is played on a recorded run: what it is given at each step, and what it answers.

A trace has no rollbacks, so a rule's run ends at its first alarm, whether it would stop or roll back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from sr_monitor.errors import MonitorError
from sr_monitor.guard.decision import VITAL_SIGNALS, Guard
from sr_monitor.tracebench.trace import Pool, Trace

SAMPLES = 16  # per held-out task in one evaluation of a rule that does not choose for itself


@dataclass(frozen=True)
class Outcome:
    """alarm: the step of the first alarm, or None. kept: the step it ends with. drawn: evaluation samples.

    trained: samples of the training steps that were executed. short: evaluations the recorded samples did not suffice
    for.
    """

    alarm: int | None
    kept: int
    drawn: int
    trained: int
    short: int = 0


Rule = Callable[[Trace], Outcome]


@runtime_checkable
class Detector(Protocol):
    """The least that can be scored; one object per run."""

    def begin(self, steps: int, tasks: int) -> int:
        """A run of ``steps`` planned steps begins. Returns the held-out samples per task wanted at each step, or 0."""

    def update(self, step: int, passes: Sequence[int], samples: int, signals: Mapping[str, float | None]) -> bool:
        """Step ``step`` (0: before training) is done. True raises the alarm, which ends the run.

        passes: passing samples of each held-out task, of ``samples`` each; empty where none were wanted. signals: what
        training logged at this step, None where it logged nothing.
        """

    def kept(self) -> int:
        """The step whose policy is kept, after the alarm or at the end of the run."""


def detected(make: Callable[[], Detector]) -> Rule:
    """A detector, shown each step in turn. Raises MonitorError where its answers break the rules."""

    def play(trace: Trace) -> Outcome:
        detector, pool = make(), Pool(trace)
        wanted = detector.begin(trace.planned, trace.tasks)
        if not isinstance(wanted, int) or wanted < 0:
            raise MonitorError(f"begin must answer with samples per task, 0 or more, got {wanted!r}: return an int")
        for step in range(trace.last + 1):
            passes, samples = pool.draw(step, wanted) if wanted else ([], 0)
            if detector.update(step, passes, samples, trace.signals[step]):
                return outcome(trace, step, detector.kept(), pool)
        return outcome(trace, None, detector.kept(), pool)

    return play


def guarded(make: Callable[[Trace], Guard]) -> Rule:
    """A guard, driven as a trainer drives it."""

    def play(trace: Trace) -> Outcome:
        guard, pool = make(trace), Pool(trace)
        guard.begin(trace.seed, trace.planned, trace.tasks)
        for step in range(trace.last + 1):
            while (request := guard.ask(step)) is not None:
                passes, samples = pool.draw(request.step, request.samples, request.tasks)
                if not samples:
                    break  # nothing is left to answer with: it decides on what it has
                guard.tell(request.step, passes, samples, request.tasks)
            decision = guard.decide(step, {name: trace.signals[step].get(name) for name in VITAL_SIGNALS})
            if decision.action != "continue":
                return outcome(trace, step, guard.kept(), pool)
        return outcome(trace, None, guard.kept(), pool)

    return play


def outcome(trace: Trace, alarm: int | None, kept: int, pool: Pool | None = None) -> Outcome:
    """What a rule did on a trace. Raises MonitorError unless the kept step was executed."""
    executed = trace.last if alarm is None else alarm
    if not 0 <= kept <= executed:
        raise MonitorError(
            f"{trace.name}: the kept step must lie between 0 and the last executed one, {executed}, got {kept}"
        )
    return Outcome(
        alarm=alarm,
        kept=kept,
        drawn=pool.drawn if pool else 0,
        trained=executed * trace.train_samples,
        short=pool.short if pool else 0,
    )
