"""One campaign: rollout, grade, update, evaluate, decide, act, save, step by step."""

from __future__ import annotations

from collections.abc import Callable

from sr_core.loop.record import Row
from sr_core.loop.run import CampaignRun, Link
from sr_core.loop.summary import CampaignSummary
from sr_core.protocols import Guard
from sr_core.runs.store import RunStore
from sr_core.tasks import CampaignTasks
from sr_core.trainer import Trainer
from sr_core.unguarded import Unguarded

__all__ = ["Link", "Row", "run_campaign"]


def run_campaign(
    trainer: Trainer,
    tasks: CampaignTasks,
    guard: Guard | None = None,
    *,
    campaign: int = 0,
    steps: int | None = None,
    store: RunStore | None = None,
    on_row: Callable[[Row], None] | None = None,
    link: Link | None = None,
) -> CampaignSummary:
    """Train for at most ``steps`` updates under ``guard``, and leave the trainer with the policy it keeps.

    With a ``store`` that holds a checkpoint of this ``campaign`` it continues from there, bit for bit. ``on_row`` sees
    every row of ``metrics.jsonl`` as it is written. ``link``: what ``run_chain`` adds; its checkpoint, or none, is then
    taken in place of the store's.
    """
    guard = guard or Unguarded(every=trainer.config.evaluate.every or 1, samples=trainer.config.evaluate.samples)
    run = CampaignRun(trainer, tasks, guard, campaign, store, on_row, link or Link.of(store, campaign))
    run.begin(trainer.config.campaign.steps if steps is None else steps)
    while not run.done:
        if run.next_step() > 0:
            rollout = run.rollout()
            batch = run.grade(rollout)
            run.update(batch)
        run.evaluate()
        decision = run.decide()
        run.act(decision)
        run.save(decision)
    return run.finish()
