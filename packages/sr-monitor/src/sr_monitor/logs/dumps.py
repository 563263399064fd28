"""Evaluations that lie in files of their own: verl's validation dumps, and results of lm-evaluation-harness."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from sr_monitor.errors import MonitorError
from sr_monitor.logs.checkpoints import step_in
from sr_monitor.logs.records import RawRow, number_of
from sr_monitor.logs.text import json_value, jsonl

_DUMP = re.compile(r"\d+")
# What verl's validation writes beside each sample, the surest first.
_SOLVED = ("acc", "accuracy", "correct", "score", "reward")


def validation_dumps(folder: Path) -> list[Path]:
    """verl's ``trainer.validation_data_dir``: one ``STEP.jsonl`` per validation, in the order of the steps."""
    found = [p for p in folder.glob("*.jsonl") if _DUMP.fullmatch(p.stem)]
    return sorted(found, key=lambda p: int(p.stem))


def read_validation_dumps(folder: Path, notes: list[str]) -> list[RawRow]:
    """A row per validation: passing samples of each prompt where scores say who passed, else their mean.

    A sample passed with ``acc`` of 1 (or true); without ``acc``, with the full score of 1. A smaller score, as for the
    right format, is not a pass. Scores that never reach 1, or exceed it, have a mean only.
    """
    read = {int(path.stem): [*jsonl(path, notes)] for path in validation_dumps(folder)}
    key = next(
        (k for k in _SOLVED if any(number_or_bool(row.get(k)) is not None for r in read.values() for row in r)), ""
    )
    if not key:
        raise MonitorError(f"{folder}: verl's dumps hold no 'score'; is it trainer.validation_data_dir?")
    scores = {
        step: [(str(row.get("input")), number_or_bool(row.get(key))) for row in rows] for step, rows in read.items()
    }
    known = [value for rows in scores.values() for _, value in rows if value is not None]
    binary = bool(known) and max(known) == 1 and min(known) >= 0
    if binary and set(known) - {0, 1}:
        notes.append(f"{key} of 1 counts as passed, anything less does not")
    prompts = sorted({prompt for rows in scores.values() for prompt, _ in rows})
    found: list[RawRow] = []
    for step, rows in scores.items():
        by_prompt: dict[str, list[float]] = defaultdict(list)
        for prompt, value in rows:
            by_prompt[prompt].append(value or 0.0)
        values = [value for group in by_prompt.values() for value in group]
        if not values:
            continue
        if not binary:
            found.append({"step": step, f"val/{key}": sum(values) / len(values)})
            continue
        passes = [sum(v == 1 for v in by_prompt.get(prompt, ())) for prompt in prompts]
        row: dict[str, Any] = {"step": step, "heldout_pass1": sum(passes) / len(values)}
        row |= {"tasks": len(by_prompt), "samples_per_task": len(values) / len(by_prompt)}
        sizes = {len(group) for group in by_prompt.values()}
        if len(sizes) == 1 and len(by_prompt) == len(prompts):
            row |= {"heldout_passes": passes, "heldout_samples": sizes.pop()}
        found.append(row)
    return found


def number_or_bool(value: Any) -> float | None:
    return float(value) if isinstance(value, bool) else number_of(value)


def is_harness_result(value: Any) -> bool:
    """Whether a JSON value is what lm-evaluation-harness writes."""
    return isinstance(value, dict) and isinstance(value.get("results"), dict) and "configs" in value


def harness_files(path: Path) -> list[Path]:
    """Result files of lm-evaluation-harness at or below ``path``."""
    if path.is_file():
        return [path] if is_harness_result(json_value(path)) else []
    return sorted(p for p in path.rglob("results*.json") if p.is_file() and is_harness_result(json_value(p)))


def read_harness(path: Path, notes: list[str]) -> list[RawRow]:
    """A row per evaluated checkpoint, its step from the model's name or the file's path.

    Columns are ``eval/TASK/METRIC``. Standard errors and sizes are taken where one task was evaluated.
    """
    rows: dict[int, dict[str, Any]] = {}
    left_out = 0
    for file in harness_files(path):
        value = json_value(file)
        config = value.get("config") or {}
        told = (value.get("model_name"), config.get("model_args"), str(file))
        step = next((s for text in told if text and (s := step_in(str(text))) is not None), None)
        if step is None:
            left_out += 1
            continue
        row = rows.setdefault(step, {"step": step})
        for task, results in value["results"].items():
            row |= _of_task(task, results)
        if len(value["results"]) == 1:
            ((task, results),) = value["results"].items()
            errors = [v for k, v in results.items() if "_stderr" in k and number_of(v) is not None]
            row |= {"heldout_se": errors[0]} if errors else {}
            size = (value.get("n-samples") or {}).get(task) or {}
            row |= {"tasks": size["effective"], "samples_per_task": 1} if "effective" in size else {}
    if left_out:
        notes.append(f"{left_out} result(s) name no step in the model's name or the path and were left out")
    if not rows:
        raise MonitorError(
            f"{path}: results of lm-evaluation-harness whose model names no step; evaluate checkpoint-STEP folders"
        )
    return [rows[step] for step in sorted(rows)]


def _of_task(task: str, results: dict[str, Any]) -> dict[str, float]:
    """``eval/TASK/accuracy`` from the first known metric: its filter (``exact_match,strict-match``) is dropped."""
    for metric in ("pass@1", "pass_at_1", "exact_match", "acc_norm", "acc", "em", "f1"):
        for key, value in results.items():
            if key.partition(",")[0] == metric and (number := number_of(value)) is not None:
                return {f"eval/{task}/{'accuracy' if metric.startswith(('acc', 'em', 'f1')) else metric}": number}
    return {}
