"""Tasks that a policy sometimes solves: those whose samples differ in reward, so that a policy gradient learns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sr_reward.errors import FormatError, TaskError
from sr_reward.formats.files import iter_tasks_and_rows
from sr_reward.formats.native import native_row
from sr_reward.grading.evaluation import Sampler, counts_in, evaluate
from sr_reward.grading.grader import CodeGrader
from sr_reward.task import Task
from sr_reward.testbed import load_testbed

_SUPPORT = 0.10  # share of tasks solved at least once, below which a reward alone is a poor teacher
_BINS = 10


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Pass rates to keep. A bound that is given is inclusive; one that is not leaves out 0, or 1."""

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        low, high = self.low or 0.0, 1.0 if self.high is None else self.high
        if not 0 <= low <= high <= 1:
            raise TaskError(f"low and high must be pass rates, 0 <= low <= high <= 1, got {self.low} and {self.high}")

    def holds(self, rate: float) -> bool:
        """Whether a task of this pass rate is kept."""
        return (rate > 0 if self.low is None else rate >= self.low) and (
            rate < 1 if self.high is None else rate <= self.high
        )


def failing_references(tasks: Sequence[Task], grader: CodeGrader) -> list[str]:
    """The ids of tasks whose own reference does not pass; a task without a reference cannot be checked."""
    solved = [task for task in tasks if task.reference.strip()]
    grades = grader.grade(solved, [task.reference for task in solved], solutions=True)
    return [task.task_id for task, grade in zip(solved, grades, strict=True) if grade.outcome != "passed"]


def select(counts: Mapping[str, tuple[int, int]], bounds: Bounds, left_out: Sequence[str] = ()) -> list[str]:
    """The ids, in the order of ``counts`` (samples and passed by task), whose pass rate ``bounds`` hold."""
    out = set(left_out)
    return [name for name, (n, c) in counts.items() if n and name not in out and bounds.holds(c / n)]


def write_selection(
    path: str | Path,
    rows: Mapping[str, Mapping[str, Any]],
    chosen: Sequence[str],
    counts: Mapping[str, tuple[int, int]],
    about: Mapping[str, Any],
) -> None:
    """The rows of the chosen tasks as they were, with ``pass_rate``, ``n``, ``n_passed`` and what ``about`` says of the
    policy. Raises FormatError where the file exists or cannot be written."""
    try:
        with Path(path).open("x", encoding="utf-8") as file:
            for name in chosen:
                n, passed = counts[name]
                rate = {"pass_rate": passed / n, "n": n, "n_passed": passed}
                file.write(json.dumps({**rows[name], **rate, **about}) + "\n")
    except OSError as error:
        raise FormatError(f"{path} cannot be written: {error.strerror}; name a new file") from None


def select_tasks(
    tasks: Mapping[str, tuple[Task, Mapping[str, Any]]],
    sampler: Sampler,
    grader: CodeGrader,
    bounds: Bounds,
    *,
    out: Path | None,
    pool: Sequence[str | Path] = (),
    on_task: Callable[[int], None] | None = None,
) -> list[str]:
    """Evaluate ``tasks`` (with the rows they were read from, by id) and write those within ``bounds`` to the new file
    ``out``; returns what there is to say.

    Samples stay in the folder ``OUT-samples``, from which an interrupted call goes on. ``pool``: files of earlier
    samples of the same policy that count, too. Without ``out`` nothing is written.
    """
    if out is not None and out.exists():
        raise FormatError(f"{out} exists; name a new file for the selected tasks")
    given = [task for task, _ in tasks.values()]
    failing = failing_references(given, grader)
    folder = None if out is None else out.with_name(f"{out.stem}-samples")
    files = evaluate(sampler, given, grader, out=folder, on_task=on_task)
    counts = files.counts()
    for path in pool:
        for name, (n, passed) in counts_in(path, files.about["weights"]).items():
            if name in counts:
                counts[name] = (counts[name][0] + n, counts[name][1] + passed)
    chosen = select(counts, bounds, failing)
    if out is not None:
        about: dict[str, Any] = {
            key: files.about[key] for key in ("policy", "weights", "prompts", "template") if key in files.about
        }
        write_selection(out, {name: row for name, (_, row) in tasks.items()}, chosen, counts, about)
    return list(selection_lines(counts, chosen, failing))


def rows_of(source: str) -> dict[str, tuple[Task, Mapping[str, Any]]]:
    """Tasks by id with their rows: of a file, or the training tasks of the ``testbed`` as native rows."""
    if source == "testbed":
        return {task.task_id: (task, native_row(task)) for task in load_testbed().train}
    return {task.task_id: (task, row) for task, row in iter_tasks_and_rows(source)}


def selection_lines(
    counts: Mapping[str, tuple[int, int]], chosen: Sequence[str], failing: Sequence[str]
) -> Iterator[str]:
    """A histogram of pass rates, what was chosen, and what to beware of."""
    rates = [c / n for n, c in counts.values() if n]
    cells = [("0", sum(rate == 0 for rate in rates))]
    for i in range(_BINS):
        inside = sum(i / _BINS < rate <= (i + 1) / _BINS and rate < 1 for rate in rates)
        cells.append((f"to {(i + 1) / _BINS:.1f}", inside))
    cells.append(("1", sum(rate == 1 for rate in rates)))
    largest = max(count for _, count in cells) or 1
    for name, count in cells:
        yield f"  {name:>6} {'#' * round(40 * count / largest):<40} {count}"
    yield f"{len(chosen)} of {len(counts)} tasks chosen"
    if failing:
        yield f"{len(failing)} left out, whose own reference does not pass, such as {failing[0]}"
    fewest = min((n for n, c in counts.values() if n and c == 0), default=0)
    if fewest:
        yield f"0 of {fewest} passed still allows a pass rate of {1 - 0.05 ** (1 / fewest):.0%} (95% bound)"
    if rates and (solved := sum(rate > 0 for rate in rates)) < _SUPPORT * len(rates):
        yield (
            f"the policy solved {solved} of {len(rates)} tasks at least once: too little to be trained by reward "
            "alone; give it a start on reference solutions with sr warm-start"
        )
