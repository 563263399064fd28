"""A reward function for TRL's trainers (GRPO, RLOO and kin)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from sr_reward.errors import TaskError
from sr_reward.grading.grader import CodeGrader
from sr_reward.task import Task

Messages = list[dict[str, Any]]


def reward_function(
    tasks: Iterable[Task], *, grader: CodeGrader | None = None, column: str = "task_id", solutions: bool = False
) -> Callable[..., list[float | None]]:
    """The function to give to ``GRPOTrainer(reward_funcs=...)``.

    ``column`` is the data set's column that names the task of a prompt. Completions may be texts or chats (the last
    message counts). The reward is 1.0 or 0.0; a failure of the sandbox itself is None, which TRL (1.9 and later)
    leaves out of the group and of the loss. ``grader`` defaults to a new ``CodeGrader``, which starts its workers
    at the first call and requires the isolation level ``landlock`` (IsolationError where it is missing). Raises
    TaskError for a task_id that is not among the tasks.
    """
    by_id = {task.task_id: task for task in tasks}
    used = grader or CodeGrader(require_isolation="landlock")

    def code_reward(completions: list[str] | list[Messages], **columns: Any) -> list[float | None]:
        if column not in columns:
            raise TaskError(f"the data set needs a column {column!r} that names the task, got {sorted(columns)}")
        wanted = []
        for name in columns[column]:
            if str(name) not in by_id:
                raise TaskError(f"{column} must name one of the {len(by_id)} tasks, got {name!r}")
            wanted.append(by_id[str(name)])
        texts = [text_of(completion) for completion in completions]
        return [grade.reward for grade in used.grade(wanted, texts, solutions=solutions)]

    return code_reward


def text_of(completion: str | Messages) -> str:
    """The text of a completion, be it a text or a chat (its last message)."""
    if isinstance(completion, str):
        return completion
    content = completion[-1]["content"] if completion else ""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in content or [])
