"""``compute_score`` for verl: point ``custom_reward_function.path`` at this file and ``.name`` at ``compute_score``."""

from __future__ import annotations

import json
from collections import defaultdict
from functools import lru_cache
from typing import Any

from sr_reward.formats import read_task
from sr_reward.grading.grader import CodeGrader
from sr_reward.task import Task

_grader: list[CodeGrader] = []  # one per process, made at the first call
_seen: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])  # per task: sum of rewards, number


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str | dict[str, Any],
    extra_info: dict[str, Any] | None = None,
    **settings: Any,
) -> dict[str, float]:
    """The score of one answer, as verl's reward managers ask for it.

    ``ground_truth`` is a task row in any format of ``load_tasks`` (a dict or its JSON). ``settings`` are those of
    ``CodeGrader``; ``require_isolation`` is ``landlock`` unless it is given. The answer is a whole program unless
    ``extra_info["completion"]`` is true. Returns ``score`` and ``infra_error``. verl knows no missing score; where
    the sandbox itself failed the score is the mean of this task's scores so far (0.5 before the first), which pulls
    an advantage neither way, and ``infra_error`` is 1.
    """
    text = ground_truth if isinstance(ground_truth, str) else json.dumps(ground_truth, sort_keys=True)
    if not _grader:
        _grader.append(CodeGrader(**{"require_isolation": "landlock"} | settings))
    whole = not (extra_info or {}).get("completion", False)
    (grade,) = _grader[0].grade([_task(text)], [solution_str], solutions=whole)
    total = _seen[text]
    if grade.reward is None:
        return {"score": total[0] / total[1] if total[1] else 0.5, "infra_error": 1.0}
    total[0] += grade.reward
    total[1] += 1
    return {"score": grade.reward, "infra_error": 0.0}


@lru_cache(maxsize=4096)
def _task(text: str) -> Task:
    return read_task(json.loads(text))
