"""What the verbs of ``run_campaign`` do: the trainer, the guard and the books of a campaign, step by step."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import Tensor

from sr_core.batch import Batch, Rollout
from sr_core.dynamic_sampling import replace_equal_groups
from sr_core.evaluation.capabilities import CapabilityChange
from sr_core.loop.evaluations import Evaluations
from sr_core.loop.record import Row, StepRecord
from sr_core.loop.retained import RetainedPolicies
from sr_core.loop.summary import Audit, Audited, CampaignSummary
from sr_core.protocols import LAST_ITERATE, Decision, Guard, Task
from sr_core.runs.checkpoint import Checkpoint
from sr_core.runs.store import RunStore
from sr_core.tasks import CampaignTasks
from sr_core.trainer import Trainer

__all__ = ["CampaignRun", "Link"]

SHOWN = 6  # completions of an evaluation that go into samples.jsonl


@dataclass(frozen=True, kw_only=True)
class Link:
    """What a campaign gets from its chain, all of which may be absent.

    ``checkpoint``: to continue from. ``notes``: JSON that every checkpoint carries for the chain, as it does the
    ``earlier`` policies. ``start_audit``: the audit of the policy that the campaign starts from, where it is known.
    """

    checkpoint: Checkpoint | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    earlier: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)
    start_audit: Audited | None = None

    @classmethod
    def of(cls, store: RunStore | None, campaign: int) -> Link:
        """For a campaign on its own: the checkpoint that ``store`` has of it, if any."""
        checkpoint = store.load() if store is not None else None
        return cls(checkpoint=checkpoint if checkpoint is not None and checkpoint.campaign == campaign else None)


class CampaignRun:
    """A campaign in progress. ``run_campaign`` calls its methods in the order in which they stand here."""

    def __init__(
        self,
        trainer: Trainer,
        tasks: CampaignTasks,
        guard: Guard,
        campaign: int,
        store: RunStore | None,
        on_row: Callable[[Row], None] | None,
        link: Link,
    ) -> None:
        self.trainer, self.tasks, self.guard, self.campaign = trainer, tasks, guard, campaign
        self.store, self.on_row, self.link = store, on_row, link
        self.retained = RetainedPolicies(trainer)
        self.evaluations = Evaluations(self.retained, tasks, campaign)
        self.records: list[StepRecord] = []
        self.prompts: list[Task] = []
        self.budget, self.done = 0, False

    def begin(self, steps: int) -> None:
        """Start a campaign of at most ``steps`` updates, or continue from the checkpoint."""
        checkpoint = self.link.checkpoint
        if checkpoint is None:
            self.budget = self.guard.begin(self.campaign, steps, len(self.tasks.heldout))
            self.trainer.prepare(self.tasks.train, campaign=self.campaign)
            return
        checkpoint = self.trainer.local_checkpoint(checkpoint)
        self.retained.restore(checkpoint)
        self.budget, self.done = checkpoint.state["budget"], checkpoint.state["done"]
        self.guard.load_state_dict(checkpoint.state["guard"])
        if self.store is not None:
            rows = [row for row in self.store.rows() if row["campaign"] == self.campaign]
            self.records = [StepRecord.from_row(row) for row in rows]
        if 0 in self.retained.snapshots:  # a penalty may refer to the campaign's first policy
            self.trainer.load_weights(self.retained.snapshots[0].weights)
        self.trainer.load_state_dict(checkpoint.trainer)
        self.trainer.load_weights(checkpoint.weights)

    def next_step(self) -> int:
        """Open the next step's record and return its number; 0 only measures the policy as it came."""
        trainer = self.trainer
        step = self.record.step + 1 if self.records else 0
        penalty = trainer.penalty.coefficient if trainer.penalty.pulls else None
        self.records.append(
            StepRecord(
                campaign=self.campaign,
                step=step,
                lr=trainer.lr,
                entropy_bonus=trainer.entropy_bonus,
                penalty=penalty,
            )
        )
        self.retained.step = step
        return step

    @property
    def record(self) -> StepRecord:
        """The record of the step in progress."""
        return self.records[-1]

    def rollout(self) -> Rollout:
        """Draw the step's samples."""
        step = self.record.step
        self.prompts = self.tasks.draw(self.trainer.config, self.campaign, step)
        with self.record.seconds.clock("rollout"):
            return self.trainer.rollout(self.prompts, campaign=self.campaign, step=step)

    def grade(self, rollout: Rollout) -> Batch:
        """Verdicts of the samples; where the algorithm wants groups of unequal rewards, after drawing others."""
        clock, step = self.record.seconds.clock, self.record.step
        with clock("grade"):
            batch = self.trainer.grade(self.prompts, rollout)
        if self.trainer.config.algorithm.tries:
            batch = replace_equal_groups(
                self.trainer, self.tasks, self.prompts, batch, clock, campaign=self.campaign, step=step
            )
        self.record.samples = batch.stats()
        return batch

    def update(self, batch: Batch) -> None:
        """Train on the batch."""
        if self.store is not None:
            self.store.stop.moved_on()
        with self.record.seconds.clock("update"):
            result = self.trainer.update(batch)
        self.record.update, self.record.finite = result.stats(), result.finite
        self.record.lr = self.trainer.optimizer.param_groups[0]["lr"]

    def evaluate(self) -> None:
        """Answer what the guard asks for."""
        with self.record.seconds.clock("evaluate"):
            self.evaluations.answer(self.guard, self.record)

    def decide(self) -> Decision:
        """Ask the guard; all processes must get the same answer."""
        decision = self.guard.decide(self.record.step, self.record.signals())
        self.trainer.ranks.assert_equal("decision", (self.record.step, decision.action, decision.to_step))
        return decision

    def act(self, decision: Decision) -> None:
        """Retain what may be needed, then roll back if the guard says so. Happens before anything is saved."""
        step = self.record.step
        wanted = set(self.guard.retained())
        if self.guard.kept() != step:  # the trainer has this step's policy
            wanted.add(self.guard.kept())
        if self._audits:
            wanted |= {0, self._peak_step()}
        if self.trainer.penalty.follows_start:
            wanted.add(0)
        self.done = decision.action == "stop" or step >= self.budget
        self.retained.keep(wanted, moments=not self.guard.reset_optimizer)
        if decision.action == "roll_back" and not self.done:
            self.retained.roll_back(decision)

    def save(self, decision: Decision) -> None:
        """Write the row, then the checkpoint if it is due. Raises KeyboardInterrupt when the run is to stop here."""
        record, stops = self.record, False
        record.decide(decision)
        row = record.to_row()
        if self.store is not None:
            self.store.append("metrics.jsonl", [row])
            place = {"campaign": self.campaign, "step": record.step}
            self.store.append("samples.jsonl", [place | example for example in record.examples[:SHOWN]])
            every = self.trainer.config.campaign.checkpoint_every
            due = self.store.pace.due() if every is None else record.step % every == 0
            stops = self.store.end_step(partial(self._checkpoint, record.step), due=self.done or due)
        if self.on_row is not None:
            self.on_row(row)
        if stops:
            raise KeyboardInterrupt

    def _checkpoint(self, step: int) -> Checkpoint:
        """The trainer's state, which is that at the end of ``step``."""
        snapshots = self.retained.snapshots
        checkpoint = Checkpoint(
            campaign=self.campaign,
            step=step,
            state={
                "budget": self.budget,
                "done": self.done,
                "guard": self.guard.state_dict(),
                "notes": self.link.notes,
            },
            trainer=self.trainer.state_dict(),
            weights=self.trainer.weights(),
            retained={step: snapshot.weights for step, snapshot in snapshots.items()},
            positions={step: snapshot.position for step, snapshot in snapshots.items()},
            earlier=self.link.earlier,
        )
        return self.trainer.full_checkpoint(checkpoint)

    def finish(self) -> CampaignSummary:
        """Audit start, peak, end and kept, and leave the trainer with the kept policy."""
        last, end = self.record, self.record.step
        peak, kept = self._peak_step(), self.guard.kept()
        values = {record.step: record.heldout.pass1 for record in self.records if record.heldout is not None}
        latest = values[max(values)] if values else None
        if kept == LAST_ITERATE and last.last_iterate is not None:
            values[kept] = last.last_iterate.pass1
        summary = CampaignSummary(
            campaign=self.campaign,
            start=values.get(0),
            peak=values.get(peak),
            peak_step=peak,
            end=values.get(end, latest),
            kept=values.get(kept, latest),
            kept_step=end if kept == LAST_ITERATE else kept,
            kept_iterate=kept == LAST_ITERATE,
            steps=end,
            budget=self.budget,
            skipped=sum(not record.finite for record in self.records),
            se=self._delta_se(),
            signals={"positive_rate": last.samples.train_reward, "entropy": last.samples.entropy},
            capabilities=self._capabilities(kept),
            audit=self._audit(peak, kept) if self._audits else None,
        )
        self.retained.settle(kept)
        return summary

    def _peak_step(self) -> int:
        """The step whose held-out pass@1 is highest, the first of equals; the step in progress counts."""
        seen = [(record.heldout.pass1, -record.step) for record in self.records if record.heldout is not None]
        return -max(seen)[1] if seen else 0

    def _delta_se(self) -> float | None:
        """Standard error of the change of held-out pass@1 from the first to the last evaluation."""
        errors = [record.heldout.se for record in self.records if record.heldout is not None]
        return math.hypot(errors[0], errors[-1]) if errors else None

    def _capabilities(self, kept: int) -> CapabilityChange | None:
        """What changed from the first policy to the kept one; None where either was not measured on all tasks."""
        heldout = {record.step: record.heldout for record in self.records}
        before = heldout.get(0)
        after = self.record.last_iterate if kept == LAST_ITERATE else heldout.get(kept)
        if before is None or after is None or before.passes is None or after.passes is None:
            return None
        return CapabilityChange.between(self.tasks.heldout, before, after)

    @property
    def _audits(self) -> bool:
        return bool(self.tasks.audit and self.trainer.config.evaluate.audit_samples)

    def _audit(self, peak: int, kept: int) -> Audit:
        places = {"start": 0, "peak": peak, "end": self.record.step, "kept": kept}
        audited: dict[int, Audited] = {}
        for step in dict.fromkeys(places.values()):
            if step == 0 and self.link.start_audit is not None:
                audited[step] = self.link.start_audit
            else:
                measured = self.evaluations.audit(step)
                audited[step] = Audited(pass1=measured.pass1, halves=measured.halves)
        return Audit(
            **{name: audited[step].pass1 for name, step in places.items()},
            tasks=len(self.tasks.audit),
            samples=self.trainer.config.evaluate.audit_samples,
            halves={name: list(audited[step].halves) for name, step in places.items()},
        )
