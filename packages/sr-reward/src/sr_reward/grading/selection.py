"""Tasks that a policy sometimes solves: those whose samples differ in reward, so that a policy gradient learns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sr_reward.errors import FormatError, TaskError
from sr_reward.formats.files import Skipped, iter_tasks_and_rows, load_tasks
from sr_reward.formats.native import native_row
from sr_reward.formats.rows import read_task
from sr_reward.grading.evaluation import DRAWN, Sampler, counts_in, evaluate
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
    policy; a row without a name gets the one it has among all, as ``task_id``. Raises FormatError where the file exists
    or cannot be written."""
    try:
        with Path(path).open("x", encoding="utf-8") as file:
            for name in chosen:
                n, passed = counts[name]
                rate = {"pass_rate": passed / n, "n": n, "n_passed": passed}
                row = dict(rows[name])
                named = row if read_task(row, number=-1).task_id == name else {**row, "task_id": name}
                file.write(json.dumps({**named, **rate, **about}) + "\n")
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
    samples of the same policy that count, too. Without ``out``, or where no task is within bounds, no file is written.
    """
    if out is not None and out.exists():
        raise FormatError(f"{out} exists; name a new file for the selected tasks")
    given = [task for task, _ in tasks.values()]
    earlier = _pooled(pool, sampler.about(given), tasks)
    failing = failing_references(given, grader)
    place = None if out is None else out.with_name(f"{out.stem}-samples") / "samples.jsonl"
    files = evaluate(sampler, given, grader, out=place, on_task=on_task)
    counts = files.counts()
    said = []
    for path, found in earlier.items():
        for name, (n, passed) in found.items():
            counts[name] = (counts[name][0] + n, counts[name][1] + passed)
        said.append(f"{path}: {sum(n for n, _ in found.values())} samples of {len(found)} tasks")
    chosen = select(counts, bounds, failing)
    if out is not None and chosen:
        kept = ("policy", "prompts", *DRAWN)
        about: dict[str, Any] = {key: files.about[key] for key in kept if key in files.about}
        write_selection(out, {name: row for name, (_, row) in tasks.items()}, chosen, counts, about)
    return [*said, *selection_lines(counts, chosen, failing)]


def _pooled(
    paths: Sequence[str | Path], about: Mapping[str, Any], tasks: Mapping[str, Any]
) -> dict[Path, dict[str, tuple[int, int]]]:
    """``counts_in`` each file, of the ``tasks``. Raises FormatError for a file that has none of them, too."""
    found: dict[Path, dict[str, tuple[int, int]]] = {}
    for path in dict.fromkeys(map(Path, paths)):
        found[path] = {name: count for name, count in counts_in(path, about).items() if name in tasks}
        if not found[path]:
            raise FormatError(f"{path} has samples of none of the {len(tasks)} tasks; leave it out of --pool")
    return found


def tasks_of(source: str, split: Literal["train", "heldout"], skipped: Skipped) -> Sequence[Task]:
    """The tasks of a file, or the ``testbed``'s of that split. ``skipped`` is told of rows that cannot be graded."""
    if source != "testbed":
        return load_tasks(source, skipped=skipped)
    testbed = load_testbed()
    return testbed.train if split == "train" else testbed.heldout


def rows_of(source: str, skipped: Skipped | None = None) -> dict[str, tuple[Task, Mapping[str, Any]]]:
    """Tasks by id with their rows: of a file, or the training tasks of the ``testbed`` as native rows. ``skipped`` is
    told of rows that cannot be graded."""
    if source == "testbed":
        return {task.task_id: (task, native_row(task)) for task in load_testbed().train}
    return {task.task_id: (task, row) for task, row in iter_tasks_and_rows(source, skipped=skipped)}


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
    yield f"{len(chosen)} of {len(counts)} tasks chosen" + ("" if chosen else "; no file is written")
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
