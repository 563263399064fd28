"""CollapseGuard: a sequential test for a fall of held-out pass@1, with a stated false-alarm rate.

Evidence comes in two stages. Every evaluation is compared with the best step so far; the best of many noisy
evaluations is flattered, and the look that raises suspicion is slandered, so this comparison only ever
*suspects*. A suspicion is settled on fresh samples of both policies, which were not there when either was
chosen: under a policy that has not fallen, the k-th such test of a campaign errs with probability
false_alarm / (k (k+1)), and these sum to false_alarm, whatever the number of looks, the design, or the shape
of the curve before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from statistics import NormalDist, median
from typing import Any

from sr_monitor.counts import Counts, fall
from sr_monitor.decision import Decision, Request, first_non_finite
from sr_monitor.errors import MonitorError

# One-sided 5%: a look below this is no news. It costs evaluations, not false alarms.
SUSPICION_Z = 1.645
# A candidate this many standard errors below the best is not worth fresh samples at the end of a campaign.
RUN_OFF_Z = 2.0


@dataclass
class _Campaign:
    """What a guard remembers of one campaign; its size does not grow with the number of steps."""

    number: int = 0
    steps: int | None = None
    tasks: int | None = None  # held-out tasks
    counts: dict[int, Counts] = field(default_factory=dict)  # all samples of the steps still of interest
    fresh: dict[int, Counts] = field(default_factory=dict)  # those drawn after the look at `looked`
    scores: dict[int, float] = field(default_factory=dict)  # robust pass@1 of the start and of the peak
    rates: dict[int, float] = field(default_factory=dict)  # pass@1 of the last two looks on this branch
    start: int = 0
    looked: int = -1  # the last evaluated step
    looks: int = 0  # after the first
    suspected: int | None = None  # the step the last look seems to have fallen from
    wanted: tuple[int, ...] = ()  # steps to be sampled afresh before the decision
    tests: int = 0  # comparisons on fresh samples so far
    rollbacks: int = 0

    def best(self) -> int:
        """The scored step with the highest score; the later of equals, which kept more of the training."""
        return max(self.scores, key=lambda step: (self.scores[step], step), default=self.start)

    def keep_only(self, steps: Collection[int]) -> None:
        self.counts = {step: counts for step, counts in self.counts.items() if step in steps}

    def branch_from(self, step: int) -> None:
        """What follows grows out of ``step`` again; what came after it is no longer on the branch."""
        self.keep_only(self.scores)
        self.rates = {step: self.counts[step].pass1} if step in self.counts else {}
        self.suspected, self.wanted = None, ()

    def to_json(self) -> dict[str, Any]:
        state = dict(vars(self))
        for name in _BY_STEP:  # JSON has no integer keys
            state[name] = [[step, _plain(value)] for step, value in state[name].items()]
        return {**state, "wanted": list(self.wanted)}

    @classmethod
    def from_json(cls, state: Mapping[str, Any]) -> _Campaign:
        names = {f.name for f in fields(cls)}
        if set(state) != names:
            odd = ", ".join(sorted(set(state) ^ names))
            raise MonitorError(f"guard: the saved state is not one of this class, {odd} differ; start anew")
        back = {name: dict(state[name]) for name in _BY_STEP}
        for name in ("counts", "fresh"):
            back[name] = {step: Counts.from_json(value) for step, value in back[name].items()}
        return cls(**{**state, **back, "wanted": tuple(state["wanted"])})


_BY_STEP = ("counts", "fresh", "scores", "rates")


def _plain(value: Any) -> Any:
    return value.to_json() if isinstance(value, Counts) else value


class CollapseGuard:
    """Holds a campaign at its peak: rolls back on a fall that sampling noise does not explain.

    false_alarm: probability, per campaign, of acting on a policy that never fell (it stayed, or improved).
    margin: a fall of pass@1 up to this is let pass; acting costs training, so tiny falls are not worth it.
    floor: never hand on a policy below the campaign's start (by its score); False lets go of the start's
    checkpoint. max_rollbacks: after that many, a further alarm stops the campaign.
    lr_factor: what a roll-back multiplies the learning rate by. reset_optimizer: whether it forgets the
    optimizer's moments. samples: per held-out task in one look; at least 16 for 30 tasks, or noise hides falls
    of less than 20 points. every: steps between looks.

    Drive it as ``begin``, then for each step, 0 included, ``ask`` and ``tell`` until None, then ``decide``. A
    loop that can not evaluate an older policy uses ``step`` alone: the alarm rate stays, but without fresh
    samples a fall must be larger to count. Pure: no clock, no randomness; ``state_dict`` is complete.
    It does not look at training reward: only held-out results and non-finite numbers raise an alarm.
    """

    def __init__(
        self,
        *,
        false_alarm: float = 0.05,
        margin: float = 0.05,
        floor: bool = True,
        max_rollbacks: int = 3,
        lr_factor: float = 0.5,
        reset_optimizer: bool = True,
        samples: int = 16,
        every: int = 1,
    ) -> None:
        if not 0 < false_alarm < 0.5:
            raise MonitorError(f"guard: false_alarm must lie in (0, 0.5), got {false_alarm}")
        if not 0 <= margin < 1:
            raise MonitorError(f"guard: margin is a difference of pass@1 in [0, 1), got {margin}")
        if not 0 < lr_factor <= 1:
            raise MonitorError(f"guard: lr_factor must lie in (0, 1], got {lr_factor}")
        for name, value, least in (
            ("max_rollbacks", max_rollbacks, 0),
            ("samples", samples, 1),
            ("every", every, 1),
        ):
            if value < least:
                raise MonitorError(f"guard: {name} must be at least {least}, got {value}")
        self.false_alarm, self.margin, self.floor = false_alarm, margin, floor
        self.max_rollbacks, self.lr_factor, self.reset_optimizer = max_rollbacks, lr_factor, reset_optimizer
        self.samples, self.every = samples, every
        self._c = _Campaign()

    # -- the campaign ----------------------------------------------------------------------------------

    def begin(self, campaign: int, steps: int) -> int:
        """A campaign of at most ``steps`` gradient steps starts; the guard grants them all."""
        if steps < 0:
            raise MonitorError(f"guard: steps must not be negative, got {steps}")
        self._c = _Campaign(number=campaign, steps=steps)
        return steps

    def ask(self, step: int) -> Request | None:
        """The evaluation wanted now, or None. Call again after each ``tell``."""
        c = self._c
        if step > c.looked:
            due = step % self.every == 0 or step == c.steps
            return Request(step=step, samples=self.samples) if due else None
        missing = [wanted for wanted in c.wanted if wanted not in c.fresh] if step == c.looked else []
        return Request(step=missing[0], samples=self.samples, fresh=True) if missing else None

    def tell(self, step: int, passes: Sequence[int], samples: int, tasks: Sequence[int] | None = None) -> None:
        """Passing samples of each task (of ``tasks``, or of all), out of ``samples`` each, at ``step``."""
        c = self._c
        counts = Counts.of(passes, samples, tasks, c.tasks)
        c.tasks = len(counts.samples_M)
        if step > c.looked:
            self._look(step, counts)
            return
        if step not in c.counts:
            raise MonitorError(
                f"guard: step {step} is no longer of interest; answer requests, they name steps in {sorted(c.counts)}"
            )
        c.fresh[step] = c.fresh[step] + counts if step in c.fresh else counts
        c.counts[step] = c.counts[step] + counts
        if step in c.scores:
            c.scores[step] = c.counts[step].pass1

    def decide(self, step: int, signals: Mapping[str, float | None]) -> Decision:
        """The answer after ``step``; ``signals`` is the rest of the step's metric row."""
        c = self._c
        broken = first_non_finite(signals)
        if broken is not None:
            return self._act(step, "non_finite", f"{broken} is not finite at step {step}", None, None)
        if c.looked < step:
            return Decision(action="continue", rule="not_evaluated", reason=f"Step {step} was not evaluated.")
        decision = self._judge(step)
        if decision.action == "continue":
            if step == c.steps:  # the run-off: samples drawn after the choice of candidates
                c.scores.update({s: c.counts[s].pass1 for s in c.fresh})
                c.scores = {s: score for s, score in c.scores.items() if s in (c.start, c.best())}
            c.keep_only({*c.scores, step})
        return decision

    def step(self, step: int, passes: Sequence[int], samples: int, **signals: float | None) -> Decision:
        """``tell`` and ``decide`` in one, for a loop that can not evaluate older policies again."""
        self.tell(step, passes, samples)
        return self.decide(step, signals)

    def holds(self) -> frozenset[int]:
        """Steps whose checkpoints must stay available: the start, the peak, and the last look."""
        return frozenset(self._c.counts) | {self.kept()}

    def kept(self) -> int:
        """The step whose policy is handed on if the campaign ended now."""
        return self._c.best()

    # -- evidence --------------------------------------------------------------------------------------

    def _look(self, step: int, counts: Counts) -> None:
        """The first samples of a new step: score the step before it, and say what is wanted afresh."""
        c = self._c
        c.counts[step], c.fresh, c.suspected = counts, {}, None
        if not c.scores:
            c.start = step
            c.scores[step] = counts.pass1
        else:
            c.looks += 1
            self._score_previous(counts.pass1)
            if fall(c.counts[c.best()], counts).z(self.margin) > SUSPICION_Z:
                c.suspected = c.best()
        c.rates[step] = counts.pass1
        c.rates = dict(list(c.rates.items())[-2:])
        c.looked = step
        c.wanted = self._wants_fresh(step)

    def _score_previous(self, rate: float) -> None:
        """Median of three: one lucky evaluation makes no peak. ``rate`` is that of the look after it."""
        c = self._c
        *before, (previous, value) = c.rates.items()
        if previous in c.scores or not before:
            return
        score = median((before[0][1], value, rate))
        if score >= c.scores[c.best()]:
            floor = {c.start: c.scores[c.start]} if self.floor else {}
            c.scores = {**floor, previous: score}

    def _wants_fresh(self, step: int) -> tuple[int, ...]:
        c = self._c
        if c.suspected is not None:
            return (c.suspected, step)
        if step != c.steps:
            return ()
        favourite = max(c.counts, key=lambda s: (c.counts[s].pass1, s))
        close = [s for s in sorted(c.counts) if fall(c.counts[favourite], c.counts[s]).z() < RUN_OFF_Z]
        return tuple(close) if len(close) > 1 else ()

    def _judge(self, step: int) -> Decision:
        """Compare on fresh samples where there are any, else on what there is, more strictly."""
        c = self._c
        reference = c.suspected if c.suspected is not None else c.best()
        confirmed = c.suspected is not None and {reference, step} <= set(c.fresh)
        if c.looks == 0 or reference == step:
            return Decision(action="continue", rule="fall", reason=f"Step {step} is the first look.")
        if confirmed:
            c.tests += 1
            level = self.false_alarm / (c.tests * (c.tests + 1))
            seen, source = fall(c.fresh[reference], c.fresh[step]), "on fresh samples of both"
        else:
            # Any of the looks so far may have become the reference, hence the division by their number.
            level = self.false_alarm / (c.looks**2 * (c.looks + 1))
            seen, source = fall(c.counts[reference], c.counts[step]), "on the samples at hand"
        z = NormalDist().inv_cdf(1 - level)
        text = (
            f"pass@1 lies {seen.drop:+.3f} below that of step {reference} {source}, "
            f"at least {seen.lower(z):+.3f} at level {level:.2g}; {self.margin:.3f} is let pass"
        )
        if seen.lower(z) > self.margin:
            return self._act(step, "fall", text, seen.lower(z), self.margin)
        return Decision(action="continue", rule="fall", value=seen.lower(z), limit=self.margin, reason=f"{text}.")

    def _act(self, step: int, rule: str, why: str, value: float | None, limit: float | None) -> Decision:
        """Roll back to the step that would be kept, or stop where that is no use any more."""
        c = self._c
        to = self.kept()
        last = c.steps is not None and step >= c.steps
        if last or c.rollbacks >= self.max_rollbacks:
            spent = "the campaign ends here" if last else f"{c.rollbacks} roll-backs are spent"
            c.branch_from(to)
            return Decision(
                action="stop",
                rule=rule,
                value=value,
                limit=limit,
                reason=f"{why}; {spent}, step {to} is kept.",
            )
        c.rollbacks += 1
        c.branch_from(to)
        return Decision(
            action="roll_back",
            rule=rule,
            value=value,
            limit=limit,
            to_step=to,
            lr_factor=self.lr_factor,
            reset_optimizer=self.reset_optimizer,
            reason=f"{why}; back to step {to} with {self.lr_factor:g} times the learning rate.",
        )

    # -- persistence -----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """JSON-able and complete; its size does not grow with the number of steps."""
        return self._c.to_json()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._c = _Campaign.from_json(state)
