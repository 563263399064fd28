"""Results in the files that other tools read: EvalPlus' ``eval_results.json`` and LiveCodeBench's list of problems."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sr_reward.errors import FormatError
from sr_reward.formats.samples import Sample
from sr_reward.task import Task

EXPORTS = ("evalplus", "livecodebench")
_STATUS = {"passed": "pass", "timeout": "timeout", "infra_error": None}


def check_results(path: str | Path | None) -> None:
    """Raise FormatError where ``write_results`` could not write, or would overwrite anything but results."""
    if path is None:
        return
    try:
        with Path(path).open("a+", encoding="utf-8") as file:
            file.seek(0)
            known = _are_results(file.read())
    except OSError as error:
        raise _failure(path, error) from None
    if not known:
        raise FormatError(f"{path} exists and holds something else than results; name another file")


def _are_results(text: str) -> bool:
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return False
    if isinstance(found, dict):
        return "eval" in found
    return isinstance(found, list) and all(isinstance(row, dict) and "graded_list" in row for row in found)


def _failure(path: str | Path, error: OSError) -> FormatError:
    return FormatError(f"{path} cannot be written: {error.strerror}; name another file")


def write_results(
    path: str | Path | None,
    kind: str | None,
    tasks: Mapping[str, Task],
    samples: Sequence[Sample],
    outcomes: Sequence[str],
) -> None:
    """Write the outcomes of samples as ``kind``, one of ``EXPORTS``, expects them; nothing without a path. Raises
    FormatError where the file cannot be written. Without a kind: LiveCodeBench's where all tasks are its own, else
    EvalPlus'.

    What the others have and is not known here is empty: EvalPlus' hash of its data set, the numbers of the tests that
    failed, and the verdict of a sample without one. ``plus_status`` is given for EvalPlus' own files, whose inputs of
    both kinds are graded together.
    """
    if path is None:
        return
    if kind is None:
        kind = "livecodebench" if all(task.format == "livecodebench" for task in tasks.values()) else "evalplus"
    made = (
        evalplus_results(tasks, samples, outcomes) if kind == "evalplus" else livecodebench_results(samples, outcomes)
    )
    try:
        Path(path).write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise _failure(path, error) from None


def evalplus_results(tasks: Mapping[str, Task], samples: Sequence[Sample], outcomes: Sequence[str]) -> dict[str, Any]:
    """``{"date", "hash", "eval": {task_id: [{"task_id", "solution", "base_status", "plus_status", ...}]}}``"""
    found: dict[str, list[dict[str, Any]]] = {}
    for sample, outcome in zip(samples, outcomes, strict=True):
        status = _STATUS.get(outcome, "fail")
        task = tasks[sample.task_id]
        found.setdefault(sample.task_id, []).append(
            {
                "task_id": sample.task_id,
                "solution": sample.text if sample.solution else task.prompt + sample.text,
                "base_status": status,
                "plus_status": status if task.format == "evalplus" else None,
                "base_fail_tests": [],
                "plus_fail_tests": [],
            }
        )
    return {"date": "", "hash": "", "eval": found}


def livecodebench_results(samples: Sequence[Sample], outcomes: Sequence[str]) -> list[dict[str, Any]]:
    """``[{"question_id", "code_list", "graded_list", "pass@1"}]``, one per problem."""
    found: dict[str, dict[str, Any]] = {}
    for sample, outcome in zip(samples, outcomes, strict=True):
        row = found.setdefault(
            sample.task_id, {"question_id": sample.task_id, "code_list": [], "graded_list": [], "pass@1": 0.0}
        )
        row["code_list"].append(sample.text)
        row["graded_list"].append(None if outcome == "infra_error" else outcome == "passed")
    for row in found.values():
        judged = [passed for passed in row["graded_list"] if passed is not None]
        row["pass@1"] = sum(judged) / len(judged) if judged else None
    return list(found.values())
