"""One campaign: roll out, grade, update, evaluate, decide, act, save - step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from sr_core.dynamic_sampling import replace_equal_groups
from sr_core.progress import Audit, Progress, Row
from sr_core.protocols import Guard
from sr_core.runs.store import Checkpoint, RunStore
from sr_core.tasks import CampaignTasks
from sr_core.trainer import Trainer
from sr_core.unguarded import Unguarded

__all__ = ["CampaignTasks", "Row", "run_campaign"]


def run_campaign(
    trainer: Trainer,
    tasks: CampaignTasks,
    guard: Guard | None = None,
    *,
    campaign: int = 0,
    steps: int | None = None,
    store: RunStore | None = None,
    checkpoint: Checkpoint | None = None,
    notes: Mapping[str, Any] | None = None,
    start_audit: Audit | None = None,
    earlier: Mapping[int, Mapping[str, Tensor]] | None = None,
    on_row: Callable[[Row], None] | None = None,
) -> dict[str, Any]:
    """Train for at most ``steps`` updates under ``guard``, and leave the trainer with the policy it keeps.

    ``store`` makes it resumable: give the ``checkpoint`` it loads to go on from there. ``notes`` are plain values that
    every checkpoint carries for the caller, as it does the weights in ``earlier``; ``start_audit`` is the audit of the
    policy as it came (pass@1, and on either half of the samples), where it is known; ``on_row`` sees every row as it is
    written. Returns the campaign's summary (keys as in ``summary.json``).
    """
    guard = guard or Unguarded(every=trainer.config.evaluate.every or 1, samples=trainer.config.evaluate.samples)
    progress = Progress(trainer, tasks, guard, campaign, store, notes or {}, on_row, start_audit, earlier or {})
    progress.begin(trainer.config.campaign.steps if steps is None else steps, checkpoint)
    while not progress.done:
        step = progress.next_step()
        if step > 0:  # step 0 only measures the policy as it came
            batch = tasks.batch(trainer.config, campaign, step)
            with progress.clock("rollout"):
                rollout = trainer.rollout(batch, campaign=campaign, step=step)
            with progress.clock("grade"):
                graded = trainer.grade(batch, rollout)
            graded = replace_equal_groups(trainer, tasks, batch, graded, progress.clock, campaign=campaign, step=step)
            with progress.clock("update"):
                progress.note_update(graded, trainer.update(graded))
        with progress.clock("evaluate"):
            progress.evaluate()
        decision = guard.decide(step, progress.signals())
        trainer.ranks.assert_equal("decision", (step, decision.action, decision.to_step))
        progress.act(decision)
        progress.save(decision)
    return progress.finish()
