"""Tables: CSV of any trainer, the CSV exports of Weights & Biases and TensorBoard, JSONL.

A page export of Weights & Biases has the columns ``Step`` and ``RUN - METRIC``, each with ``__MIN`` and ``__MAX``: one
run per RUN. An export through its API has ``_step``. A column ``run``, ``run_name`` or ``run_id`` of texts also gives
one run per text. A column ``split``, ``phase``, … that tells rows of evaluation from those of training gives columns
``SPLIT/NAME``, objects inside a JSONL row columns ``OUTER/INNER``. TensorBoard's page exports ``Wall time,Step,Value``
and says the tag in the file's name.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from sr_monitor.errors import MonitorError
from sr_monitor.logs.columns import evaluates, step_columns
from sr_monitor.logs.records import RawRow
from sr_monitor.logs.text import HALF_WRITTEN, ending, first_row, jsonl, open_text

_RUN_COLUMNS = ("run", "run_name", "run_id", "Run", "run_path", "experiment_name")
_SPLIT_COLUMNS = ("split", "phase", "mode", "stage", "subset", "type")
_MOST_RUNS = 100
_LONGEST_FIELD = 2**31 - 1
_DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+(?:[eE][-+]?\d+)?")
_TAG = re.compile(r"tag-(.+)$")


def read_table(path: Path, notes: list[str]) -> list[tuple[str, list[RawRow]]]:
    """(name of the run, its rows) for every run of a table; the name is empty where there is one only."""
    if ending(path) == ".jsonl" or first_row(path):
        return _by_run([dict(_flat(row)) for row in jsonl(path, notes, needed=True)])
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
    with open_text(path) as file:
        first = next(_table_lines(file), "")
    try:
        return [name.strip() for name in next(csv.reader([first], delimiter=_delimiter(first)), [])]
    except csv.Error:
        return []


def _csv(path: Path, notes: list[str]) -> tuple[list[str], list[dict[str, Any]]]:
    """The first header of a CSV and its rows. A header repeated on the way, as by a resume, counts from there on.

    Rows that do not fit the header, as a killed writer leaves them, are left out with a note; an error where they are
    not fewer than the others.
    """
    first: list[str] = []
    header: list[str] = []
    rows: list[dict[str, Any]] = []
    odd: list[int] = []
    with open_text(path, newline="") as file:
        for line, cells in _cells(path, file):
            if not header or header[0] == cells[0] != "":
                header = cells
                first = first or header
            elif len(cells) == len(header):
                rows.append(dict(zip(header, cells, strict=True)))
            else:
                odd.append(line)
        last = line if header else 0
    if odd and odd[-1] == last and len(cells) < len(header):
        notes.append(HALF_WRITTEN)
        odd.pop()
    if odd and len(odd) >= len(rows):
        raise MonitorError(f"{path}:{odd[0]}: as many fields as the header has are needed")
    if odd:
        notes.append(f"{len(odd)} broken line(s) were left out, the first is {path}:{odd[0]}")
    return first, rows


def _cells(path: Path, file: TextIO) -> Iterator[tuple[int, list[str]]]:
    """(line, its cells, stripped); a quote that is still open in the last line ends the table."""
    lines = _table_lines(file)
    head = next(lines, "")
    delimiter = _delimiter(head)
    reader = csv.reader(itertools.chain([head], lines), strict=True, delimiter=delimiter)
    limit, begun = csv.field_size_limit(_LONGEST_FIELD), 0
    try:
        for cells in reader:
            if any(cells):
                yield reader.line_num, [_with_point(c.strip()) if delimiter == ";" else c.strip() for c in cells]
            begun = reader.line_num
    except csv.Error as error:
        if reader.line_num > begun + 1 or "unexpected end" not in str(error):
            raise MonitorError(f"{path}:{begun + 1}: not a comma-separated table, {error}") from error
        yield reader.line_num, [""]
    finally:
        csv.field_size_limit(limit)


def _table_lines(file: TextIO) -> Iterator[str]:
    """The lines of a table from its header on: what comes before, empty lines and comments, is left out."""
    lines = (line.replace("\0", "") for line in file)
    return itertools.dropwhile(lambda line: not line.strip() or line.startswith("#"), lines)


def _with_point(cell: str) -> str:
    """A number with a decimal comma, as tables separated by semicolons have them, with a point."""
    return cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell) else cell


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


def _flat(row: RawRow, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The numbers of objects inside an object as columns ``OUTER/INNER``."""
    for name, value in row.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", value


def _by_split(rows: Sequence[RawRow]) -> list[RawRow]:
    """The rows with ``SPLIT/`` before their columns where a column tells those of evaluation from those of training."""
    for column in _SPLIT_COLUMNS:
        told = [str(row.get(column) or "").strip().lower() for row in rows]
        if len(set(told)) <= _MOST_RUNS and any(map(evaluates, told)):
            steps = step_columns({name for row in rows for name in row})
            outside = {column, *_RUN_COLUMNS, *itertools.chain.from_iterable(steps)}
            return [_within(row, split, outside) if split else row for row, split in zip(rows, told, strict=True)]
    return [*rows]


def _within(row: RawRow, split: str, outside: Collection[str]) -> RawRow:
    return {name if name in outside else f"{split}/{name}": value for name, value in row.items()}


def _by_run(rows: Sequence[RawRow]) -> list[tuple[str, list[RawRow]]]:
    rows = _by_split(rows)
    parts: list[tuple[str, list[RawRow]]] = []
    for column in _RUN_COLUMNS:
        told = [row.get(column) for row in rows]
        names = list(dict.fromkeys(name for name in told if isinstance(name, str) and name.strip()))
        if 1 < len(names) <= _MOST_RUNS and all(isinstance(name, str) and name.strip() for name in told):
            parts = [(name, [row for row in rows if row[column] == name]) for name in names]
            break
    return parts or [("", [*rows])]
