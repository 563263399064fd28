"""A grader for model-written Python that the program under test cannot reach."""

from sr_reward.errors import FormatError, IsolationError, RewardError, TaskError
from sr_reward.task import AssertTests, CallCase, CallTests, StdioCase, StdioTests, Task

__all__ = [
    "AssertTests",
    "CallCase",
    "CallTests",
    "FormatError",
    "IsolationError",
    "RewardError",
    "StdioCase",
    "StdioTests",
    "Task",
    "TaskError",
]
