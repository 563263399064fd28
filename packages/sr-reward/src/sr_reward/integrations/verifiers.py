"""Tasks for verifiers (0.4 and later, ``verifiers.v1``) whose reward is our verdict."""

from __future__ import annotations

import asyncio
from typing import Any

import verifiers.v1 as vf

from sr_reward.formats import read_task
from sr_reward.grading.grader import CodeGrader

_grader: list[CodeGrader] = []  # one per process, made at the first reward


class CodeData(vf.TaskData):  # type: ignore[misc]  # without the library its classes are Any
    """``row`` is a task row in any format of ``load_tasks``."""

    row: dict[str, Any]


class CodeTask(vf.Task[CodeData]):  # type: ignore[misc]
    """Yield these from a ``Taskset``: ``CodeTask(CodeData(prompt=..., row=...))``.

    The reward ``passes`` is 1.0 or 0.0 for the last reply of a trace, which must hold a whole
    program (verifiers strips it, so it cannot continue a prompt). Where the sandbox itself failed twice it raises
    ``SandboxError``, which verifiers records on the trace and by which the reward stays None: not scored.
    """

    @vf.reward  # type: ignore[untyped-decorator]
    async def passes(self, trace: vf.Trace) -> float:
        """Grade the last reply. Raises SandboxError."""
        if not _grader:
            _grader.append(CodeGrader(require_isolation="landlock"))
        task = read_task(self.data.row)
        (grade,) = await asyncio.to_thread(_grader[0].grade, [task], [trace.last_reply], solutions=True)
        if grade.reward is None:
            raise vf.SandboxError(grade.detail)
        return grade.reward
