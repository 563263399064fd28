"""Verdicts of a grader: each process grades its share, and what the grader failed on is graded once more."""

from __future__ import annotations

from collections.abc import Sequence

from sr_core.config import SamplingConfig
from sr_core.distributed.process_group import ALONE, Ranks
from sr_core.errors import GraderError
from sr_core.policy import Policy
from sr_core.protocols import Grade, Grader, Task

__all__ = ["find_too_long", "find_ungradable", "grade_all"]

STUB = "    return None\n"


def grade_all(
    grader: Grader, tasks: Sequence[Task], texts: Sequence[str], *, max_infra_share: float, ranks: Ranks = ALONE
) -> list[Grade]:
    """Grade, each process its share, and grade once more what got no verdict; every process returns all verdicts.

    Raises GraderError when more than ``max_infra_share`` of the samples still have none.
    """
    grades = _grade_shared(grader, tasks, texts, ranks)
    missing = [i for i, g in enumerate(grades) if g.reward is None]
    if len(missing) > max_infra_share * len(grades):
        named = sorted({tasks[i].task_id for i in missing})
        raise GraderError(
            f"the grader failed on {len(missing)} of {len(grades)} samples (limit {max_infra_share:.0%}, "
            f"campaign.max_infra_share), of tasks {', '.join(named[:5])}{', ...' if len(named) > 5 else ''}. Progress "
            "is saved: fix the grader, then resume the run"
        )
    return grades


def find_ungradable(grader: Grader, tasks: Sequence[Task], ranks: Ranks = ALONE) -> dict[str, str]:
    """The ids of tasks on which the grader gives no verdict, with what it says: their tests cannot run here.

    Each is graded with its ``reference`` where it has one, else with a function body that does nothing; what gets no
    verdict is graded once more.
    """
    texts = [getattr(task, "reference", "").removeprefix(task.prompt) or STUB for task in tasks]
    grades = _grade_shared(grader, tasks, texts, ranks)
    failed = [(task, grade) for task, grade in zip(tasks, grades, strict=True) if grade.reward is None]
    return {task.task_id: getattr(grade, "detail", "") or grade.outcome for task, grade in failed}


def find_too_long(policy: Policy, tasks: Sequence[Task], sampling: SamplingConfig) -> dict[str, str]:
    """The ids of tasks whose prompt leaves no room for ``sampling.max_new_tokens`` in the policy's context, with how
    long it is."""
    most = policy.context
    if most is None:
        return {}
    lengths = [len(prompt.ids) for prompt in policy.prompts(tasks, sampling.stop)]
    room = most - sampling.max_new_tokens
    return {
        task.task_id: f"its prompt has {length} tokens, the model has room for {room} and sampling.max_new_tokens"
        for task, length in zip(tasks, lengths, strict=True)
        if length > room
    }


def _grade_shared(grader: Grader, tasks: Sequence[Task], texts: Sequence[str], ranks: Ranks) -> list[Grade]:
    mine = ranks.share(len(texts))
    with ranks.sync_errors():
        part = _grade(grader, tasks[mine.start : mine.stop], texts[mine.start : mine.stop])
    return ranks.gather(part)


def _grade(grader: Grader, tasks: Sequence[Task], texts: Sequence[str]) -> list[Grade]:
    grades = list(grader.grade(tasks, texts))
    missing = [i for i, g in enumerate(grades) if g.reward is None]
    if missing:
        again = grader.grade([tasks[i] for i in missing], [texts[i] for i in missing])
        for i, grade in zip(missing, again, strict=True):
            grades[i] = grade
    return grades
