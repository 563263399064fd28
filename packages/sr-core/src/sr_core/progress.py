"""The books of a campaign in progress: its rows, the weights it holds, its checkpoints, its summary."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from sr_core.batch import Batch
from sr_core.errors import ConfigError, NonFiniteError
from sr_core.evaluation.capabilities import capability_change, task_values
from sr_core.evaluation.evaluate import Evaluation
from sr_core.optim.update import UpdateResult
from sr_core.protocols import LAST_ITERATE, Decision, Guard, Task
from sr_core.runs.snapshot import Snapshot
from sr_core.runs.store import Checkpoint, RunStore
from sr_core.tasks import CampaignTasks
from sr_core.trainer import Trainer

__all__ = ["Audit", "Progress", "Row"]

Row = dict[str, Any]
Audit = tuple[float, Sequence[float]]  # audited pass@1, and the same on either half of the samples
SIGNALS = (
    *("train_reward", "entropy", "grad_norm", "kl", "length", "truncated"),
    *("zero_std_groups", "unique_share", "loss", "infra_errors", "sampled_tokens"),
)
HELDOUT = (
    *("heldout_pass1", "heldout_se", "heldout_unique", "heldout_well_formed"),
    *("heldout_passes", "heldout_samples"),
)


@dataclass
class Progress:
    """The books of a campaign in progress."""

    trainer: Trainer
    tasks: CampaignTasks
    guard: Guard
    campaign: int
    store: RunStore | None
    notes: Mapping[str, Any]
    on_row: Callable[[Row], None] | None
    start_audit: Audit | None
    earlier: Mapping[int, Mapping[str, Tensor]]
    step: int = -1
    budget: int = 0
    done: bool = False
    rows: list[Row] = field(default_factory=list)
    held: dict[int, Snapshot] = field(default_factory=dict)

    def begin(self, steps: int, checkpoint: Checkpoint | None) -> None:
        """Start afresh, or from ``checkpoint``."""
        if checkpoint is None:
            self.budget = self.guard.begin(self.campaign, steps, len(self.tasks.heldout))
            self.trainer.prepare(self.tasks.train, campaign=self.campaign)
            return
        checkpoint = self.trainer.local_checkpoint(checkpoint)
        self.step = checkpoint.step
        self.held = {
            step: Snapshot.of(weights, checkpoint.positions[step], copied=True)
            for step, weights in checkpoint.held.items()
        }
        self.budget, self.done = checkpoint.state["budget"], checkpoint.state["done"]
        self.guard.load_state_dict(checkpoint.state["guard"])
        if self.store is not None:
            self.rows = [row for row in self.store.rows() if row["campaign"] == self.campaign]
        if 0 in self.held:
            self.trainer.load_weights(self.held[0].weights)  # a penalty may refer to the campaign's first policy
        self.trainer.load_state_dict(checkpoint.trainer)
        self.trainer.load_weights(checkpoint.weights)

    def next_step(self) -> int:
        """Open the next step's row and return its number."""
        self.step += 1
        self._row: Row = {"campaign": self.campaign, "step": self.step, **dict.fromkeys(SIGNALS)}
        self._row |= dict.fromkeys((*HELDOUT, "last_iterate"))
        self._row |= {"finite": 1.0, "lr": self.trainer.lr, "evaluation_samples": 0}
        pulled = self.trainer.penalty.pulls
        self._row |= {"penalty": self.trainer.penalty.coefficient if pulled else None}
        self._row |= {"entropy_bonus": self.trainer.entropy_bonus}
        self._row["seconds"] = dict.fromkeys(("rollout", "grade", "update", "evaluate"), 0.0)
        self._examples: list[dict[str, Any]] = []
        return self.step

    @contextmanager
    def clock(self, phase: str) -> Iterator[None]:
        """Add the time spent inside to ``seconds[phase]`` of the row."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._row["seconds"][phase] += round(time.perf_counter() - began, 4)

    def note_update(self, graded: Batch, result: UpdateResult) -> None:
        """Put the numbers of the samples and of the update into the row."""
        self._row |= graded.signals()
        self._row |= {"kl": result.kl, "finite": float(result.finite)}
        self._row["lr"] = self.trainer.optimizer.param_groups[0]["lr"]  # the rate that was applied, warm-up included
        if result.finite:  # JSON has no NaN, and a skipped step has no norm
            self._row |= {"grad_norm": result.grad_norm, "loss": result.loss}

    def signals(self) -> dict[str, float | None]:
        """The row's numbers, for the guard."""
        return {name: self._row[name] for name in (*SIGNALS, "finite", "lr")}

    def evaluate(self) -> None:
        """Answer every evaluation that the guard asks for; the first one of this step enters the row.

        A step that was not taken has nothing new to measure, so nothing of it can become a peak.
        """
        if not self._row["finite"]:
            return
        asked: Counter[int] = Counter()
        while (request := self.guard.ask(self.step)) is not None:
            chosen = self.tasks.heldout if request.tasks is None else [self.tasks.heldout[i] for i in request.tasks]
            turn = asked[request.step] + (request.step != self.step)
            asked[request.step] += 1
            # Looked at again, policies are drawn with the same random numbers, so that less of a difference is luck.
            purpose = f"heldout-{turn}" if turn else f"heldout-0-of-{self.step}"
            measured = self._measure(request.step, chosen, request.samples, purpose)
            self._row["evaluation_samples"] += request.samples * len(chosen)
            if request.step == self.step and self._row["heldout_pass1"] is None:
                self._row |= _heldout(measured, of_all=request.tasks is None)
                self._examples = measured.examples
            elif request.step == LAST_ITERATE:
                self._row["last_iterate"] = _heldout(measured, of_all=request.tasks is None)
            self.guard.tell(request.step, measured.passes, request.samples, request.tasks)

    def _measure(
        self, step: int, tasks: Sequence[Task], samples: int, purpose: str, place: int | None = None
    ) -> Evaluation:
        """Evaluate the policy of ``step``, the current one or a held one; ``purpose`` and ``place`` (left out: the
        step reached) name the random numbers."""
        place = self.step if place is None else place
        with self._policy_of(step):
            try:
                return self.trainer.evaluate(tasks, samples, campaign=self.campaign, step=place, purpose=purpose)
            except NonFiniteError:  # a policy that cannot be sampled from passes nothing
                self._row["finite"] = 0.0
                return Evaluation.of_nothing(len(tasks), samples)

    @contextmanager
    def _policy_of(self, step: int) -> Iterator[None]:
        """The trainer with the policy of ``step``, and then again with what it had."""
        if step == LAST_ITERATE:  # what it has
            yield
            return
        if step == self.step:
            with self.trainer.averaged():
                yield
            return
        current = self.trainer.weights()
        self.trainer.load_weights(self.held[step].weights)
        try:
            yield
        finally:
            self.trainer.load_weights(current)

    def act(self, decision: Decision) -> None:
        """Hold what must be held, then roll back if the guard says so. Happens before anything is saved."""
        wanted = set(self.guard.retained())
        if self.guard.kept() != self.step:  # the policy of this step is at hand as it is
            wanted.add(self.guard.kept())
        if self.tasks.audit and self.trainer.config.evaluate.audit_samples:
            wanted |= {0, self._peak_step()}
        if self.trainer.penalty.follows_start:
            wanted.add(0)
        self.done = decision.action == "stop" or self.step >= self.budget
        if self.step in wanted:
            # moments are most of a snapshot, and few guards go back to them
            with self.trainer.averaged():
                self.held[self.step] = self.trainer.snapshot(moments=not self.guard.reset_optimizer)
        self.held = {step: snapshot for step, snapshot in self.held.items() if step in wanted}
        if decision.action == "roll_back" and not self.done:
            if decision.to_step is None or decision.to_step not in self.held:
                raise ConfigError(f"a guard may roll back to a step it holds, got {decision.to_step}")
            self.trainer.roll_back(
                self.held[decision.to_step],
                lr_factor=decision.lr_factor,
                reset_optimizer=decision.reset_optimizer,
            )

    def save(self, decision: Decision) -> None:
        """Write the row, then the checkpoint."""
        self._row["decision"] = {
            key: getattr(decision, key) for key in ("action", "rule", "value", "limit", "reason", "to_step")
        }
        self.rows.append(self._row)
        if self.store is not None:
            self.store.append("metrics.jsonl", [self._row])
            place = {"campaign": self.campaign, "step": self.step}
            self.store.append("samples.jsonl", [place | example for example in self._examples[:6]])
            if self.done or self.step % self.trainer.config.campaign.checkpoint_every == 0:
                self.store.save(self.trainer.full_checkpoint(self._checkpoint()))
        if self.on_row is not None:
            self.on_row(self._row)

    def _checkpoint(self) -> Checkpoint:
        state = {
            "budget": self.budget,
            "done": self.done,
            "guard": self.guard.state_dict(),
            "notes": self.notes,
        }
        return Checkpoint(
            campaign=self.campaign,
            step=self.step,
            state=state,
            trainer=self.trainer.state_dict(),
            weights=self.trainer.weights(),
            held={step: snapshot.weights for step, snapshot in self.held.items()},
            positions={step: snapshot.position for step, snapshot in self.held.items()},
            earlier=self.earlier,
        )

    def _peak_step(self) -> int:
        """The step whose held-out pass@1 is highest, the first of equals; the row in progress counts."""
        rows = [*self.rows, self._row] if not self.rows or self.rows[-1] is not self._row else self.rows
        seen = [(row["heldout_pass1"], -row["step"]) for row in rows if row["heldout_pass1"] is not None]
        return -max(seen)[1] if seen else 0

    def finish(self) -> dict[str, Any]:
        """Audit start, peak, end and kept, and put the kept policy into the trainer."""
        self._row = self.rows[-1]
        peak, kept, end = self._peak_step(), self.guard.kept(), self.step
        values = {row["step"]: row["heldout_pass1"] for row in self.rows if row["heldout_pass1"] is not None}
        last = values[max(values)] if values else None
        if kept == LAST_ITERATE:
            values[kept] = self._row["last_iterate"]["heldout_pass1"]
        summary: dict[str, Any] = {
            "campaign": self.campaign,
            "start": values.get(0),
            "peak": values.get(peak),
            "peak_step": peak,
            "end": values.get(end, last),
            "kept": values.get(kept, last),
            "kept_step": end if kept == LAST_ITERATE else kept,
            "kept_iterate": kept == LAST_ITERATE,
            "steps": end,
            "budget": self.budget,
            "skipped": sum(not row["finite"] for row in self.rows),
            "se": self._delta_se(),
            "signals": {"positive_rate": self._row["train_reward"], "entropy": self._row["entropy"]},
            "capabilities": self._capabilities(kept),
        }
        samples = self.trainer.config.evaluate.audit_samples
        if self.tasks.audit and samples:
            audited = {step: self._audit(step, samples) for step in dict.fromkeys((0, peak, end, kept))}
            named = {name: audited[step] for name, step in (("start", 0), ("peak", peak), ("end", end), ("kept", kept))}
            summary["audit"] = {name: pass1 for name, (pass1, _) in named.items()}
            summary["audit"] |= {"halves": {name: list(halves) for name, (_, halves) in named.items()}}
            summary["audit"] |= {"tasks": len(self.tasks.audit), "samples": samples}
        self.trainer.settle(averaged=kept != LAST_ITERATE)
        if kept not in (self.step, LAST_ITERATE):
            self.trainer.load_weights(self.held[kept].weights)
        return summary

    def _capabilities(self, kept: int) -> dict[str, Any] | None:
        """What the campaign changed, from the first policy to the kept one; None where either was not measured."""
        rows = {row["step"]: row for row in self.rows} | {LAST_ITERATE: self._row["last_iterate"]}
        if any(rows.get(step) is None or rows[step]["heldout_passes"] is None for step in (0, kept)):
            return None
        before, after = (task_values(self.tasks.heldout, rows[step]) for step in (0, kept))
        return capability_change(before, after)

    def _delta_se(self) -> float | None:
        """Standard error of the change of held-out pass@1 from the first to the last evaluation."""
        errors = [row["heldout_se"] for row in self.rows if row["heldout_se"] is not None]
        return math.hypot(errors[0], errors[-1]) if errors else None

    def _audit(self, step: int, samples: int) -> Audit:
        if step == 0 and self.start_audit is not None:
            return self.start_audit
        # the configured length, not this campaign's own: a policy is audited on the same random numbers in every arm
        place = self.trainer.config.campaign.steps
        measured = self._measure(step, self.tasks.audit, samples, f"audit-of-{step}", place)
        return measured.pass1, measured.halves


def _heldout(measured: Evaluation, *, of_all: bool) -> Row:
    """What a row says of an evaluation; counts of some of the tasks cannot be compared task by task, and stay out."""
    counts = (measured.passes, measured.samples) if of_all else (None, None)
    values = (measured.pass1, measured.se, measured.unique, measured.well_formed, *counts)
    return dict(zip(HELDOUT, values, strict=True))
