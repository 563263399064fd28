"""Solved examples for base models: our own small problems, which are in no data set and no split."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sr_reward.errors import TaskError
from sr_reward.task import StdioTests, Task


@dataclass(frozen=True, kw_only=True)
class Shot:
    """A solved problem: what a task's template shows of it, and its ``answer``."""

    prompt: str
    answer: str
    tests: str = ""
    starter: str = ""

    def values(self) -> dict[str, str]:
        """By the names of a template's fields."""
        return {
            "prompt": self.prompt,
            "answer": self.answer,
            "tests": self.tests,
            "starter": self.starter,
            "starter_section": f"### Starter Code\n{self.starter}\n\n" if self.starter else "",
            "frame": f"```python\n{self.starter or '# YOUR CODE HERE'}\n```",
            "how": "Use Call-Based format" if self.starter else "Use Standard Input format",
            "format": "",
        }


@lru_cache(maxsize=1)
def _examples() -> dict[str, tuple[Shot, ...]]:
    """By kind: ``functions`` that continue a prompt, ``texts`` with asserts, ``scripts``, ``calls`` of a method."""
    found = json.loads(Path(__file__).with_name("shots.json").read_text(encoding="utf-8"))
    return {kind: tuple(Shot(**shot) for shot in shots) for kind, shots in found.items()}


def shots_for(task: Task, count: int) -> tuple[Shot, ...]:
    """The first ``count`` examples that are like the task. Raises TaskError where there are not so many."""
    if task.prompt_is_code:
        kind = "functions"
    elif task.format == "mbpp":
        kind = "texts"
    else:
        kind = "scripts" if isinstance(task.tests, StdioTests) else "calls"
    found = _examples()[kind]
    if not 0 <= count <= len(found):
        raise TaskError(f"shots must be from 0 to {len(found)}, of which there are examples here, got {count}")
    return found[:count]
