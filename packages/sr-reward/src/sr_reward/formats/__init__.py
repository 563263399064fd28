"""Reads tasks and samples from the files the field publishes, recognized by what they hold."""

from sr_reward.formats.files import Sample, iter_tasks, load_samples, load_tasks
from sr_reward.formats.rows import FORMATS, read_task

__all__ = ["FORMATS", "Sample", "iter_tasks", "load_samples", "load_tasks", "read_task"]
