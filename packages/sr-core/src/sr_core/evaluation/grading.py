"""Verdicts of a grader: each process grades its share, and what the grader failed on is graded once more."""

from __future__ import annotations

from collections.abc import Sequence

from sr_core.distributed.process_group import ALONE, Ranks
from sr_core.errors import GraderError
from sr_core.protocols import Grade, Grader, Task

__all__ = ["grade_all"]


def grade_all(
    grader: Grader, tasks: Sequence[Task], texts: Sequence[str], *, max_infra_share: float, ranks: Ranks = ALONE
) -> list[Grade]:
    """Grade, each process its share, and grade once more what got no verdict; every process returns all verdicts.

    Raises GraderError when more than ``max_infra_share`` of the samples still have none.
    """
    mine = ranks.share(len(texts))
    with ranks.sync_errors():
        part = _grade(grader, tasks[mine.start : mine.stop], texts[mine.start : mine.stop])
    grades = ranks.gather(part)
    missing = [i for i, g in enumerate(grades) if g.reward is None]
    if len(missing) > max_infra_share * len(grades):
        raise GraderError(
            f"the grader may fail on at most {max_infra_share:.0%} of a step's samples (campaign.max_infra_share), "
            f"it failed on {len(missing)} of {len(grades)}; the run is saved: mend the grader and resume"
        )
    return grades


def _grade(grader: Grader, tasks: Sequence[Task], texts: Sequence[str]) -> list[Grade]:
    grades = list(grader.grade(tasks, texts))
    missing = [i for i, g in enumerate(grades) if g.reward is None]
    if missing:
        again = grader.grade([tasks[i] for i in missing], [texts[i] for i in missing])
        for i, grade in zip(missing, again, strict=True):
            grades[i] = grade
    return grades
