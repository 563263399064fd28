"""A grader for model-written Python that the program under test cannot reach."""

from sr_reward.errors import FormatError, IsolationError, RewardError, TaskError
from sr_reward.formats import Sample, iter_tasks, load_samples, load_tasks
from sr_reward.grading.grade import Grade
from sr_reward.grading.grader import CodeGrader
from sr_reward.grading.stats import PassAtK, mean_pass_at_k, pass_at_k
from sr_reward.sandbox import Sandbox
from sr_reward.task import AssertTests, CallCase, CallTests, StdioCase, StdioTests, Task

__all__ = [
    "AssertTests",
    "CallCase",
    "CallTests",
    "CodeGrader",
    "FormatError",
    "Grade",
    "IsolationError",
    "PassAtK",
    "RewardError",
    "Sample",
    "Sandbox",
    "StdioCase",
    "StdioTests",
    "Task",
    "TaskError",
    "iter_tasks",
    "load_samples",
    "load_tasks",
    "mean_pass_at_k",
    "pass_at_k",
]
