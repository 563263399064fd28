"""CollapseGuard: a sequential test for a fall of held-out pass@1, with a stated false-alarm rate.

Evidence comes in two stages. Every evaluation is compared with the best step so far. The maximum of noisy evaluations
is biased upward and the one that triggers suspicion downward, so this comparison only flags; fresh samples confirm: of
the best step, of the suspicious one, and, as long as the suspicion lasts, the evaluations of the steps after it. The
k-th such test of a campaign errs, under a policy that has not fallen, with probability of about
0.9 false_alarm / (k (k+1)). These sum to 0.9 false_alarm for any number of evaluations, any design and any shape of the
curve before. The rest is spent on falls too large to need fresh samples, or where none can be had; a loop that never
asks spends the whole rate there. "About": the tests are normal approximations with generous variances; the tests of
this package measure the actual rates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any, Literal

from sr_monitor.analysis.counts import Counts, fall
from sr_monitor.analysis.margin import MARGIN, margin_at
from sr_monitor.errors import MonitorError
from sr_monitor.guard.decision import LAST_ITERATE, Decision, Request, first_non_finite
from sr_monitor.guard.evidence import Aim, complete_first, lately, run_off, score_last, take_evaluation, watch_reward
from sr_monitor.guard.plan import Plan
from sr_monitor.guard.state import CampaignState

# Part of the false-alarm rate left, where fresh samples can be had, to falls so large that they need none.
UNCONFIRMED_SHARE = 0.1
# Steps between evaluations on a budget.
BUDGET_EVERY = 4


class CollapseGuard:
    """Keeps a campaign at its peak: rolls back on a fall that sampling noise does not explain.

    false_alarm: probability, per campaign, of acting on a policy that never fell (it stayed, or improved).
    margin: falls of pass@1 up to this, or to half of the peak where that is less, never trigger a rollback, even if
    significant: healthy policies vary by some points from step to step, and acting costs training.
    floor: never keep a policy below the campaign's start (by its score); False releases the start's checkpoint.
    max_rollbacks: after that many, a further alarm stops the campaign. lr_factor: what a rollback multiplies the
    learning rate by. reset_optimizer: whether it forgets the optimizer's moments.
    samples: per held-out task in one evaluation; with 30 tasks take at least 16, or noise hides falls of less than 20
    points. every: steps between evaluations; left out, 1, or 4 on a budget, where few precise evaluations tell more
    than many coarse ones.
    evaluation: ``full`` evaluates all tasks with all samples every time. ``budget`` probes with a few samples every
    time, and draws more only of what is suspicious and of the candidates at the end, so that evaluations take at most
    ``share`` of all the samples of a campaign; ``train_samples`` is what one training step draws. The start is
    evaluated in any case.
    watch_reward: on a budget, where the training reward falls (``train_reward`` among the signals, on any scale), the
    next evaluation comes after half of ``every``. The reward never decides.
    last_iterate: for a trainer whose steps stand for averages of its iterates. An average lags behind a rise, so at the
    campaign's end the last iterate itself is a candidate, too, asked for and kept as step ``LAST_ITERATE``.

    Drive it as ``begin``, then for each step, 0 included, ``ask`` and ``tell`` until None, then ``decide``. A loop that
    cannot evaluate an older policy uses ``step`` alone: the alarm rate stays, but a fall must be larger to count. Pure:
    no clock, no randomness; ``state_dict`` is complete.
    """

    def __init__(
        self,
        *,
        false_alarm: float = 0.05,
        margin: float = MARGIN,
        floor: bool = True,
        max_rollbacks: int = 3,
        lr_factor: float = 0.5,
        reset_optimizer: bool = True,
        samples: int = 16,
        every: int | None = None,
        evaluation: Literal["full", "budget"] = "full",
        share: float = 0.25,
        train_samples: int = 128,
        watch_reward: bool = False,
        last_iterate: bool = False,
    ) -> None:
        if not 0 < false_alarm < 0.5:
            raise MonitorError(f"guard: false_alarm must lie in (0, 0.5), got {false_alarm}")
        if not 0 <= margin < 1:
            raise MonitorError(f"guard: margin is a difference of pass@1 in [0, 1), got {margin}")
        if not 0 < lr_factor <= 1:
            raise MonitorError(f"guard: lr_factor must lie in (0, 1], got {lr_factor}")
        if evaluation not in ("full", "budget"):
            raise MonitorError(f"guard: evaluation must be full or budget, got {evaluation!r}")
        if not 0 < share < 1:
            raise MonitorError(f"guard: share must lie in (0, 1), got {share}")
        for name, value, least in (
            ("max_rollbacks", max_rollbacks, 0),
            ("samples", samples, 1),
            ("every", 1 if every is None else every, 1),
            ("train_samples", train_samples, 1),
        ):
            if value < least:
                raise MonitorError(f"guard: {name} must be at least {least}, got {value}")
        self.false_alarm, self.margin, self.floor = false_alarm, margin, floor
        self.max_rollbacks, self.lr_factor, self.reset_optimizer = max_rollbacks, lr_factor, reset_optimizer
        self.samples, self.every = samples, every or (1 if evaluation == "full" else BUDGET_EVERY)
        self.evaluation, self.share, self.train_samples = evaluation, share, train_samples
        self.watch_reward, self.last_iterate = watch_reward, last_iterate
        self._c = CampaignState()

    # -- the campaign ----------------------------------------------------------------------------------

    def begin(self, campaign: int, steps: int, tasks: int | None = None) -> int:
        """A campaign of at most ``steps`` gradient steps starts; the guard grants them all.

        tasks: held-out tasks. Where it is unknown, a guard on a budget learns it from its first evaluation, which is
        then completed to the size of the others.
        """
        if steps < 0:
            raise MonitorError(f"guard: steps must not be negative, got {steps}")
        if tasks is not None and tasks < 1:
            raise MonitorError(f"guard: tasks must be at least 1, got {tasks}")
        self._c = CampaignState(number=campaign, steps=steps, tasks=tasks, lr_scale=self._c.lr_scale)
        return steps

    def prolong(self, steps: int) -> int:
        """The campaign in progress has ``steps`` steps in all instead, as when a training is resumed for longer."""
        c = self._c
        if steps < max(c.evaluated, 0):
            raise MonitorError(f"guard: steps must not be below those taken ({c.evaluated}), got {steps}")
        c.steps, c.wanted = steps, ()
        if LAST_ITERATE in c.counts:  # it was the last one of then; the mean beside it is still held
            del c.counts[LAST_ITERATE], c.fresh[LAST_ITERATE]
            if c.scores.pop(LAST_ITERATE, None) is not None:
                c.scores[c.evaluated] = c.counts[c.evaluated].pass1
        return steps

    @property
    def lr_scale(self) -> float:
        """What the learning rate of the next campaign is to be multiplied by.

        It takes the factor of every alarm, and of every campaign that ended below its best policy, or kept its start
        and seemed to end no better: a rate that made one campaign fall, or gain nothing, would do the same to the next.
        """
        return self._c.lr_scale

    def ask(self, step: int) -> Request | None:
        """The evaluation wanted now, or None. Call again after each ``tell``."""
        c, plan = self._c, self._plan()
        c.asked = True
        if step > c.evaluated:
            since, ahead = step - c.evaluated, 0
            due = c.evaluated < 0 or since >= self.every or step == c.steps
            if not due and c.slump and c.steps is not None:
                # early: the evaluations after it move, and the rest of the budget pays for them
                due, ahead = since >= self.every // 2, -(-(c.steps - step) // self.every)
            paid = (
                c.evaluated < 0 or c.spent + plan.probe_cost * (1 + ahead) <= plan.bank
            )  # the start is always measured
            wanted = due and paid
            return Request(step=step, samples=plan.probe_samples, tasks=plan.probe) if wanted else None
        if step != c.evaluated or not c.wanted:
            return None
        return Request(
            step=c.wanted[0], samples=c.wanted_samples, tasks=plan.probe if c.completing else None, fresh=True
        )

    def tell(self, step: int, passes: Sequence[int], samples: int, tasks: Sequence[int] | None = None) -> None:
        """Passing samples of each task (of ``tasks``, or of all), out of ``samples`` each, at ``step``."""
        c = self._c
        counts = Counts.of(passes, samples, tasks, c.tasks)
        c.tasks = len(counts.samples_M)
        c.spent += int(counts.samples_M.sum())
        if step > c.evaluated:
            take_evaluation(c, step, counts, self._aim())
            return
        if step not in c.counts and step not in c.wanted:
            raise MonitorError(
                f"guard: step {step} is no longer of interest; answer requests, they name steps in {sorted(c.counts)}"
            )
        c.wanted = tuple(other for other in c.wanted if other != step)
        if c.completing:
            complete_first(c, step, counts, self._aim())
            return
        c.fresh[step] = c.fresh[step] + counts if step in c.fresh else counts
        c.counts[step] = c.counts[step] + counts if step in c.counts else counts
        if c.suspected is not None and step == c.evaluated:
            c.since.append(counts)
        if step in c.scores:
            c.scores[step] = c.counts[step].pass1_on(self._plan().probe)

    def decide(self, step: int, signals: Mapping[str, float | None]) -> Decision:
        """The answer after ``step``; ``signals`` is the rest of the step's metric row."""
        c = self._c
        broken = first_non_finite(signals)
        if broken is not None:
            return self._act(step, "non_finite", f"{broken} is not finite at step {step}", None, None)
        reward = signals.get("train_reward")
        if reward is not None and self.watch_reward and self.evaluation == "budget":
            watch_reward(c, reward)
        if c.evaluated < step:
            return Decision(action="continue", rule="not_evaluated", reason=f"Step {step} was not evaluated.")
        decision = self._judge(step)
        if decision.action == "continue":
            if step == c.steps and (c.since or len(c.fresh) > 1):
                run_off(c, step, self._aim())
            elif step == c.steps:
                score_last(c, self._aim())
            c.keep_only({*c.scores, step})
        return decision

    def step(self, step: int, passes: Sequence[int], samples: int, **signals: float | None) -> Decision:
        """``tell`` and ``decide`` in one, for a loop that can not evaluate older policies again."""
        self.tell(step, passes, samples)
        return self.decide(step, signals)

    def retained(self) -> frozenset[int]:
        """Steps whose checkpoints must stay available: the start, the peak, and the last evaluation."""
        return frozenset(self._c.counts) | {self.kept()}

    def kept(self) -> int:
        """The step whose policy is kept if the campaign ended now, or ``LAST_ITERATE``."""
        return self._c.best()

    # -- evidence --------------------------------------------------------------------------------------

    def _aim(self) -> Aim:
        return Aim(self._plan(), self.margin, self.floor, self.every, self.lr_factor, self.last_iterate)

    def _plan(self) -> Plan:
        c = self._c
        if self.evaluation == "full" or c.steps is None:
            return Plan.full(self.samples)
        evaluations = c.steps // self.every + 1
        bank = self.share / (1 - self.share) * self.train_samples * c.steps
        return Plan.within(bank, evaluations=evaluations, samples=self.samples, tasks=c.tasks, campaign=c.number)

    def _judge(self, step: int) -> Decision:
        """Compare on fresh samples where there are any, else on what there is, more strictly."""
        c = self._c
        reference = c.suspected if c.suspected is not None else c.best()
        confirmed = c.suspected is not None and reference in c.fresh and bool(c.since)
        if c.evaluations == 0 or reference == step:
            return Decision(action="continue", rule="fall", reason=f"Step {step} is the first evaluation.")
        if confirmed:
            c.tests += 1
            level = (1 - UNCONFIRMED_SHARE) * self.false_alarm / (c.tests * (c.tests + 1))
            seen, source = fall(c.fresh[reference], lately(c, self._plan())), "on fresh samples"
        else:
            # any of the evaluations so far may have become the reference, hence the division by their number
            share = UNCONFIRMED_SHARE if c.asked else 1.0
            level = share * self.false_alarm / (c.evaluations**2 * (c.evaluations + 1))
            seen, source = fall(c.counts[reference], c.counts[step]), "without fresh samples"
        lower = seen.lower(NormalDist().inv_cdf(1 - level))
        limit = margin_at(seen.reference, self.margin)
        text = (
            f"held-out pass@1 fell {seen.drop:.3f} below step {reference} {source} "
            f"(lower bound {lower:.3f} at α={level:.2g}; tolerance {limit:.3f})"
        )
        if lower > limit:
            return self._act(step, "fall", text, lower, limit)
        return Decision(action="continue", rule="fall", value=lower, limit=limit, reason=f"{text}.")

    def _act(self, step: int, rule: str, why: str, value: float | None, limit: float | None) -> Decision:
        """Roll back to the step that would be kept, or stop where that is no use any more."""
        c = self._c
        to = self.kept()
        c.lr_scale *= self.lr_factor
        last = c.steps is not None and step >= c.steps
        if last or c.rollbacks >= self.max_rollbacks:
            spent = "the campaign ends here" if last else f"{c.rollbacks} rollbacks are used up"
            self._return_to(to)
            return Decision(
                action="stop",
                rule=rule,
                value=value,
                limit=limit,
                reason=f"{why}; {spent}, step {to} is kept.",
            )
        c.rollbacks += 1
        self._return_to(to)
        return Decision(
            action="roll_back",
            rule=rule,
            value=value,
            limit=limit,
            to_step=to,
            lr_factor=self.lr_factor,
            reset_optimizer=self.reset_optimizer,
            reason=f"{why}; rolled back to step {to}, learning rate × {self.lr_factor:g}.",
        )

    def _return_to(self, step: int) -> None:
        """What follows grows out of ``step`` again; what came after it is no longer on the branch."""
        c, probe = self._c, self._plan().probe
        c.keep_only(c.scores)
        again = c.counts.get(step)
        c.rates = {} if again is None else {step: (again.pass1_on(probe), again.variance_on(probe))}
        c.suspected, c.wanted, c.fresh, c.since = None, (), {}, []
        c.rewards, c.reward_peak, c.slump = [], None, False

    # -- persistence -----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """JSON-able and complete; its size does not grow with the number of steps."""
        return self._c.to_json()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._c = CampaignState.from_json(state)
