"""DAPO's dynamic sampling (arXiv 2503.14476): prompts whose samples have equal rewards are replaced by others.

Such a group has no gradient, so it would make the step smaller. ``algorithm.resample`` bounds the tries, where
the paper goes on until the batch is full; what is still equal after the last try stays, and contributes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from sr_core.algorithms.parts import equal_groups
from sr_core.batch import Batch
from sr_core.protocols import Task
from sr_core.seeds import rng_for
from sr_core.tasks import CampaignTasks
from sr_core.trainer import Trainer

__all__ = ["replace_equal_groups"]


def replace_equal_groups(
    trainer: Trainer,
    tasks: CampaignTasks,
    batch: Sequence[Task],
    graded: Batch,
    clock: Callable[[str], AbstractContextManager[None]],
    *,
    campaign: int,
    step: int,
) -> Batch:
    """The step's samples with useless groups replaced by those of other training tasks.

    The tasks come in an order drawn for this step, those of ``batch`` last. The result's signals stay the first draw's,
    since what is left after choosing says nothing about the policy; its ``sampled_tokens`` count every draw.
    """
    rng = rng_for(trainer.config.seed, campaign, step, "resample")
    taken = {task.task_id for task in batch}
    shuffled = [tasks.train[i] for i in rng.permutation(len(tasks.train))]
    spare = sorted(shuffled, key=lambda task: task.task_id in taken)
    used = 0
    for attempt in range(1, trainer.config.algorithm.tries + 1):
        places = equal_groups(graded.rewards_PG, graded.valid_PG)[:, 0].nonzero()[:, 0].tolist()
        if not places:
            break
        chosen = [spare[(used + i) % len(spare)] for i in range(len(places))]
        used += len(places)
        with clock("rollout"):
            rollout = trainer.rollout(chosen, campaign=campaign, step=step, purpose=f"resample-{attempt}")
        with clock("grade"):
            graded = graded.replaced(places, trainer.grade(chosen, rollout))
    return graded
