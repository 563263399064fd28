"""Runs from the logs of this and other trainers. Every reader turns files into raw rows; ``runs`` cleans them.

sr          a run directory: metrics.jsonl with run.json, summary.json, samples.jsonl where present
trl         trainer_state.json (or a directory with checkpoints), also a JSON list of log rows: transformers, TRL
verl        the file logger's JSONL, or the console log with lines ``step:1 - name:value - ...``
openrlhf    the console log with lines ``Global step 1: {...}`` and ``Evaluation completed in 0:01:23, global_step 1,
            eval_metrics: {...}``, or its TensorBoard directory
tensorboard event files; every directory that holds some is a run, with all that lies below it
csv         a table, comma-separated or JSONL
"""

from __future__ import annotations

import ast
import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sr_monitor.analysis.runs import RawRow, Run, records_of
from sr_monitor.errors import MonitorError
from sr_monitor.logs.tfevents import scalars

FORMATS = ("sr", "trl", "verl", "openrlhf", "tensorboard", "csv")

_VERL_LINE = re.compile(r"\bstep:(\d+) - (.+)")
_NUMPY_SCALAR = re.compile(r"np\.\w+\((.*)\)$")  # as numpy 2 writes its numbers
_OPENRLHF_LINE = re.compile(
    r"(?:Global step (?P<trained>\d+)|Evaluation completed in .+, global_step (?P<evaluated>\d+), eval_metrics)"
    r": (?P<values>\{.*\})"
)
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_HEAD_BYTES = 65536


def read_runs(path: Path | str, format: str = "auto", columns: Mapping[str, str] | None = None) -> list[Run]:
    """The runs at ``path``: one, or several where a directory holds run directories (a demo, a study, a log root of
    TensorBoard; of the last, those that hold no number yet are left out).

    ``columns``: our name -> the log's name. Raises MonitorError for what is missing, malformed or not a log.
    """
    path = Path(path)
    if format != "auto" and format not in FORMATS:
        raise MonitorError(f"format: must be auto, {', '.join(FORMATS)}, got {format!r}")
    if not path.exists():
        raise MonitorError(f"{path}: no such file or directory")
    if path.is_dir() and format in ("auto", "sr") and not (path / "metrics.jsonl").exists():
        inner = sorted(p.parent for p in path.glob("*/metrics.jsonl")) or sorted(
            p.parent for p in path.glob("*/*/metrics.jsonl")
        )
        order = list(_json_object(path / "summary.json"))  # a demo's summary names its runs in their order
        inner.sort(key=lambda p: order.index(p.name) if p.name in order else len(order))
        if inner:
            return [read_run(p, "sr", columns) for p in inner]
    logged = _event_runs(path) if path.is_dir() and _kind(path, format) in ("tensorboard", "openrlhf") else []
    if len(logged) > 1:
        read = [(folder, read_run(folder, format, columns)) for folder in logged]
        return [replace(run, name=folder.relative_to(path).as_posix()) for folder, run in read]
    return [read_run(path, format, columns)]


def read_run(path: Path, format: str = "auto", columns: Mapping[str, str] | None = None) -> Run:
    """The run at ``path``."""
    chosen = _kind(path, format)
    notes: list[str] = []
    readers = {
        "sr": _sr,
        "trl": _trl,
        "verl": _verl,
        "openrlhf": _openrlhf,
        "tensorboard": _tensorboard,
        "csv": _table,
    }
    try:
        rows = list(readers[chosen](path, notes))
    except OSError as error:
        raise MonitorError(f"{path}: cannot be read, {error.strerror}; check the path and its rights") from error
    except UnicodeDecodeError as error:
        raise MonitorError(f"{path}: not a text file; name its kind with --format") from error
    if not rows:
        raise MonitorError(f"{path}: holds no row of a {chosen} log; name its kind with --format")
    try:
        records, more = records_of(rows, columns)
    except MonitorError as error:
        raise MonitorError(f"{path}: {error}") from error
    extra: dict[str, Any] = {}
    if chosen == "sr":
        folder = path if path.is_dir() else path.parent
        extra = {
            "config": _json_object(folder / "run.json"),
            "summary": _json_object(folder / "summary.json"),
            "samples": tuple(_jsonl(folder / "samples.jsonl", notes)),
        }
    name = path.stem if path.is_file() else path.resolve().name
    return Run(path, name, chosen, records, (*notes, *more), **extra)


def _kind(path: Path, format: str) -> str:
    return detect(path) if format == "auto" else format


def detect(path: Path) -> str:
    """The format of the log at ``path``, from names and first lines."""
    if path.is_dir():
        if (path / "metrics.jsonl").exists():
            return "sr"
        if (path / "trainer_state.json").exists() or any(path.glob("checkpoint-*/trainer_state.json")):
            return "trl"
        if _event_files(path):
            return "tensorboard"
        raise MonitorError(f"{path}: no log of a known kind in this directory; give the log's file")
    if ".tfevents." in path.name:
        return "tensorboard"
    if path.suffix == ".csv":
        return "csv"
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES).decode(errors="replace")
    if path.suffix == ".json":
        return "trl"
    if path.suffix == ".jsonl":
        return "verl" if re.match(r'\s*\{"step":\s*\d+,.*"data":\s*\{', head) else "sr" if _is_ours(path) else "csv"
    if _VERL_LINE.search(head):
        return "verl"
    if _OPENRLHF_LINE.search(head):
        return "openrlhf"
    raise MonitorError(f"{path}: the kind of log cannot be told; name it with --format")


def _is_ours(path: Path) -> bool:
    return path.name == "metrics.jsonl"


def _sr(path: Path, notes: list[str]) -> Iterable[RawRow]:
    return _jsonl(path / "metrics.jsonl" if path.is_dir() else path, notes, needed=True)


def _trl(path: Path, notes: list[str]) -> Iterable[RawRow]:
    if path.is_dir():
        states = [*path.glob("trainer_state.json"), *path.glob("checkpoint-*/trainer_state.json")]
        if not states:
            raise MonitorError(f"{path}: no trainer_state.json here or in checkpoint-*; give the file")
        path = max(states, key=lambda state: _json(state).get("global_step", 0))
    state = _json(path)
    rows = state.get("log_history") if isinstance(state, dict) else state
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise MonitorError(f"{path}: neither a trainer state with 'log_history' nor a list of log rows")
    return rows


def _verl(path: Path, notes: list[str]) -> Iterator[RawRow]:
    if path.suffix == ".jsonl":
        for row in _jsonl(path, notes, needed=True):
            data = row.get("data")
            yield {**(data if isinstance(data, Mapping) else row), "step": row.get("step")}
        return
    for match in _matches(path, _VERL_LINE):
        parts = (_NUMPY_SCALAR.sub(r"\1", part).rsplit(":", 1) for part in match[2].split(" - "))
        yield {"step": match[1], **{part[0].strip(): part[1].strip() for part in parts if len(part) == 2}}


def _openrlhf(path: Path, notes: list[str]) -> Iterator[RawRow]:
    if path.is_dir() or ".tfevents." in path.name:
        yield from _tensorboard(path, notes)
        return
    for match in _matches(path, _OPENRLHF_LINE):
        step = match["trained"] or match["evaluated"]
        try:
            values = _printed_dict(match["values"])
        except (ValueError, SyntaxError):
            notes.append(f"a row of step {step} could not be read and was left out")
            continue
        if match["evaluated"]:  # beside the training row of this step, whose names may be the same
            values = {name if name.startswith("eval") else f"eval/{name}": v for name, v in values.items()}
        yield {**values, "step": step}


def _printed_dict(text: str) -> dict[str, Any]:
    """A dict as ``print`` shows it: of literals, ``nan``, ``inf``, and numbers inside their type as in
    ``np.float64(0.5)``. Raises ValueError or SyntaxError for anything else.
    """
    values = ast.literal_eval(_AsLiterals().visit(ast.parse(text, mode="eval")))
    if not isinstance(values, dict):
        raise ValueError(f"not a dict: {text}")
    return {str(name): value for name, value in values.items()}


class _AsLiterals(ast.NodeTransformer):
    """Puts literals in the place of ``nan``, ``inf`` and of calls, which become their first argument."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(float(node.id)) if node.id in ("nan", "inf") else node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        inner: ast.expr = self.visit(node.args[0]) if node.args else node
        return inner


def _matches(path: Path, pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            if match := pattern.search(_ANSI.sub("", line)):
                yield match


def _tensorboard(path: Path, notes: list[str]) -> Iterator[RawRow]:
    files = [path] if path.is_file() else _event_files(path)
    if not files:
        raise MonitorError(f"{path}: no event file (events.out.tfevents.*) here or below")
    for file in files:
        rows: dict[int, dict[str, Any]] = {}  # one a step: what says its campaign must stand beside the rest
        for step, tag, value in scalars(file):
            rows.setdefault(step, {"step": step})[tag] = value
        yield from rows.values()


def _event_runs(path: Path) -> list[Path]:
    """The outermost directories at or below ``path`` that hold event files; of several, those with a number in one."""
    holding = sorted({file.parent for file in _event_files(path)})
    outermost = [folder for folder in holding if not any(parent in holding for parent in folder.parents)]
    if len(outermost) < 2:
        return outermost
    return [folder for folder in outermost if any(True for file in _event_files(folder) for _ in scalars(file))]


def _event_files(path: Path) -> list[Path]:
    return sorted(p for p in path.rglob("*tfevents*") if p.is_file())


def _table(path: Path, notes: list[str]) -> Iterable[RawRow]:
    if path.suffix in (".jsonl", ".json"):
        return _jsonl(path, notes, needed=True)
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            rows = list(csv.DictReader(file, strict=True))
        except csv.Error as error:
            raise MonitorError(f"{path}: not a comma-separated table, {error}") from error
    if rows and None in rows[-1].values():
        notes.append("the last line was half-written and was left out")
        rows.pop()
    for line, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise MonitorError(f"{path}:{line}: as many fields as the header has are needed")
    return rows


def _jsonl(path: Path, notes: list[str], *, needed: bool = False) -> Iterator[dict[str, Any]]:
    """Objects of a JSONL file; a half-written last line is left out, with a note. A file not needed may be absent."""
    if not path.exists():
        if needed:
            raise MonitorError(f"{path}: no such file")
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                notes.append("the last line was half-written and was left out")
                return
            raise MonitorError(f"{path}:{number}: not JSON; mend or delete the line") from error
        if not isinstance(row, dict):
            raise MonitorError(f"{path}:{number}: one JSON object per line is needed, got {type(row).__name__}")
        yield row


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MonitorError(f"{path}: not JSON; is it still being written?") from error


def _json_object(path: Path) -> dict[str, Any]:
    value = _json(path) if path.exists() else {}
    return value if isinstance(value, dict) else {}
