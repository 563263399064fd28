"""Reads tasks and samples from the files the field publishes, recognized by what they hold."""

from sr_reward.formats.exports import EXPORTS, check_results, write_results
from sr_reward.formats.files import Skipped, iter_tasks, load_tasks
from sr_reward.formats.rows import FORMATS, read_task
from sr_reward.formats.samples import Sample, load_samples

__all__ = [
    "EXPORTS",
    "FORMATS",
    "Sample",
    "Skipped",
    "check_results",
    "iter_tasks",
    "load_samples",
    "load_tasks",
    "read_task",
    "write_results",
]
