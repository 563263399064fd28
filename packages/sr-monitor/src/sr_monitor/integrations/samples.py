"""Passing counts from the scored samples that other trainers write. Standard library only."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path

from sr_monitor.errors import MonitorError

__all__ = ["passes_per_task", "read_samples", "scores_in_words"]

# From this score on a sample counts as solved, unless told otherwise: partial credit (0.1 for the format) does not.
SOLVED = 1.0


def passes_per_task(
    tasks: Sequence[Hashable], scores: Sequence[float], solved: float = SOLVED
) -> tuple[list[int], int]:
    """(passing samples of each task, samples per task) from one task and score per sample.

    A sample passes with a score of at least ``solved``. Tasks come in an order that depends on their names alone, so
    that evaluations pair. A prompt that stands for several tasks (it occurs a multiple of the usual number of times) is
    taken apart in the order of its samples. Other counts are an error: the evaluation is incomplete.
    """
    if len(tasks) != len(scores) or not scores:
        raise MonitorError(f"samples: one task and one score of each are needed, got {len(tasks)} and {len(scores)}")
    if not all(isinstance(score, int | float) and math.isfinite(score) for score in scores):
        raise MonitorError("samples: every score must be a finite number")
    found: dict[Hashable, list[float]] = defaultdict(list)
    for task, score in zip(tasks, scores, strict=True):
        found[task].append(score)
    each = min(map(len, found.values()))
    odd = sorted({len(values) for values in found.values() if len(values) % each})
    if odd:
        raise MonitorError(
            f"samples: as many of every prompt are needed, got {each} of some and {odd} of others; is it complete?"
        )
    passes = []
    for task in sorted(found, key=repr):
        verdicts = [score >= solved for score in found[task]]
        passes += [sum(verdicts[begin : begin + each]) for begin in range(0, len(verdicts), each)]
    return passes, each


def read_samples(files: Iterable[Path], task: Sequence[str], score: str) -> tuple[list[Hashable], list[float]]:
    """(task, score) of every row of JSONL ``files``: the task is named by the columns ``task`` together, and a score
    that is a list (one value per token) counts as its sum."""
    rows = [
        _sample(file, number, line, task, score)
        for file in files
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1)
    ]
    return [name for name, _ in rows], [value for _, value in rows]


def _sample(file: Path, number: int, line: str, task: Sequence[str], score: str) -> tuple[str, float]:
    try:
        row = json.loads(line)
        value = row[score]
        return json.dumps([row.get(column) for column in task], default=str), (
            sum(value) if isinstance(value, list) else value
        )
    except (ValueError, KeyError, TypeError) as error:
        raise MonitorError(f"{file}: line {number} holds no sample with a {score!r}; {error}") from error


def scores_in_words(scores: Sequence[float], solved: float = SOLVED) -> str:
    """How often which scores occur, and which of them pass."""
    counts = sorted(Counter(round(score, 3) for score in scores).items())
    if len(counts) > 5:
        span = f"scores from {counts[0][0]:g} to {counts[-1][0]:g}"
    else:
        span = "scores " + ", ".join(f"{value:g} ({count / len(scores):.0%})" for value, count in counts)
    return f"{span}; those of at least {solved:g} pass"
