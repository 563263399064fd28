"""Evaluations of a campaign's policies: what its guard asks for, on held-out tasks, and the audit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sr_core.errors import NonFiniteError
from sr_core.evaluation.evaluate import Evaluation, HeldOut
from sr_core.loop.record import StepRecord
from sr_core.loop.retained import RetainedPolicies
from sr_core.protocols import LAST_ITERATE, Guard, Task
from sr_core.tasks import CampaignTasks

__all__ = ["Evaluations"]


class Evaluations:
    """Evaluates the policies that ``retained`` has, the trainer's own among them."""

    def __init__(self, retained: RetainedPolicies, tasks: CampaignTasks, campaign: int) -> None:
        self.retained, self.tasks, self.campaign = retained, tasks, campaign

    def answer(self, guard: Guard, record: StepRecord) -> None:
        """Answer every request of ``guard``; the first evaluation of this step's policy enters ``record``.

        A step that was not taken has nothing new to measure, so nothing of it can become a peak.
        """
        if not record.finite:
            return
        asked: Counter[int] = Counter()
        while (request := guard.ask(record.step)) is not None:
            heldout = self.tasks.heldout
            chosen = heldout if request.tasks is None else [heldout[i] for i in request.tasks]
            turn = asked[request.step] + (request.step != record.step)
            asked[request.step] += 1
            # Policies that are evaluated again share their random numbers, which lowers the variance of differences.
            purpose = f"heldout-{turn}" if turn else f"heldout-0-of-{record.step}"
            measured = self.measure(request.step, chosen, request.samples, purpose, place=record.step)
            record.finite = record.finite and measured.finite
            record.evaluation_samples += request.samples * len(chosen)
            if request.step == record.step and record.heldout is None:
                record.heldout = HeldOut.of(measured, of_all=request.tasks is None)
                record.examples = measured.examples
            elif request.step == LAST_ITERATE:
                record.last_iterate = HeldOut.of(measured, of_all=request.tasks is None)
            guard.tell(request.step, measured.passes, request.samples, request.tasks)

    def audit(self, step: int) -> Evaluation:
        """The policy of ``step`` on the audit set, which no decision uses.

        Random numbers depend on the configured length, not on this campaign's own, so that a policy is audited on the
        same ones whichever guard or planner had the campaign end.
        """
        config = self.retained.trainer.config
        return self.measure(
            step, self.tasks.audit, config.evaluate.audit_samples, f"audit-of-{step}", place=config.campaign.steps
        )

    def measure(self, step: int, tasks: Sequence[Task], samples: int, purpose: str, *, place: int) -> Evaluation:
        """Evaluate the policy of ``step``; ``purpose`` and ``place`` name the random numbers.

        A policy that cannot be sampled from passes nothing, and the evaluation is not ``finite``.
        """
        with self.retained.policy_of(step):
            try:
                return self.retained.trainer.evaluate(
                    tasks, samples, campaign=self.campaign, step=place, purpose=purpose
                )
            except NonFiniteError:
                return Evaluation.of_nothing(len(tasks), samples)
