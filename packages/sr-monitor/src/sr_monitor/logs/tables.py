"""Tables: CSV of any trainer, the CSV exports of Weights & Biases and TensorBoard, JSONL.

A page export of Weights & Biases has the columns ``Step`` and ``RUN - METRIC``, each with ``__MIN`` and ``__MAX``: one
run per RUN. An export through its API has ``_step``. A column ``run``, ``run_name`` or ``run_id`` of texts also gives
one run per text. TensorBoard's page exports ``Wall time,Step,Value`` and says the tag in the file's name.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sr_monitor.errors import MonitorError
from sr_monitor.logs.records import RawRow
from sr_monitor.logs.text import HALF_WRITTEN, jsonl

_RUN_COLUMNS = ("run", "run_name", "run_id", "Run", "run_path", "experiment_name")
_MOST_RUNS = 100
_TAG = re.compile(r"tag-(.+)$")


def read_table(path: Path, notes: list[str]) -> list[tuple[str, list[RawRow]]]:
    """(name of the run, its rows) for every run of a table; the name is empty where there is one only."""
    if path.suffix in (".jsonl", ".json"):
        return _by_run([*jsonl(path, notes, needed=True)])
    header, rows = _csv(path, notes)
    if [name.lower() for name in header] == ["wall time", "step", "value"]:
        tag = _TAG.search(path.stem)
        column = tag[1].replace("_", "/", 1) if tag else "Value"
        return [("", [{"step": row[header[1]], column: row[header[2]]} for row in rows])]
    if is_page_export(header):
        return _page_runs(header, rows)
    return _by_run(rows)


def is_page_export(header: Sequence[str]) -> bool:
    """Whether a CSV's columns are those that Weights & Biases' page exports."""
    return len(header) > 1 and all(" - " in name for name in header[1:])


def header_of(path: Path) -> list[str]:
    """The names of a CSV's columns."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        first = file.readline()
    return next(csv.reader([first], delimiter=_delimiter(first)), [])


def _csv(path: Path, notes: list[str]) -> tuple[list[str], list[dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        delimiter = _delimiter(file.readline())
        file.seek(0)
        try:
            reader = csv.DictReader(file, strict=True, delimiter=delimiter)
            rows: list[dict[str, Any]] = list(reader)
            header = [name.strip() for name in reader.fieldnames or ()]
        except csv.Error as error:
            raise MonitorError(f"{path}: not a comma-separated table, {error}") from error
    if rows and None in rows[-1].values():
        notes.append(HALF_WRITTEN)
        rows.pop()
    for line, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise MonitorError(f"{path}:{line}: as many fields as the header has are needed")
    return header, [{name.strip(): value for name, value in row.items()} for row in rows]


def _delimiter(header: str) -> str:
    return max(",\t;", key=header.count)


def _page_runs(header: Sequence[str], rows: Sequence[RawRow]) -> list[tuple[str, list[RawRow]]]:
    step = header[0]
    runs: dict[str, dict[str, str]] = {}
    for name in header[1:]:
        run, _, metric = name.rpartition(" - ")
        if not metric.endswith(("__MIN", "__MAX")):
            runs.setdefault(run, {})[name] = metric
    step_name = "step" if step.lower() == "step" else step
    found: list[tuple[str, list[RawRow]]] = []
    for run, columns in runs.items():
        kept: list[RawRow] = [
            {step_name: row[step], **{ours: row[theirs] for theirs, ours in columns.items()}}
            for row in rows
            if any(str(row[theirs]).strip() for theirs in columns)
        ]
        if kept:
            found.append((run, kept))
    return found if len(found) > 1 else [("", part) for _, part in found]


def _by_run(rows: Sequence[RawRow]) -> list[tuple[str, list[RawRow]]]:
    parts: list[tuple[str, list[RawRow]]] = []
    for column in _RUN_COLUMNS:
        told = [row.get(column) for row in rows]
        names = list(dict.fromkeys(name for name in told if isinstance(name, str) and name.strip()))
        if 1 < len(names) <= _MOST_RUNS and all(isinstance(name, str) and name.strip() for name in told):
            parts = [(name, [row for row in rows if row[column] == name]) for name in names]
            break
    return parts or [("", [*rows])]
