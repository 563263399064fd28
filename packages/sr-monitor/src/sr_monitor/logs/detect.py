"""Which kind of log a path holds, from names and contents, and the runs below a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sr_monitor.errors import MonitorError, NothingYet
from sr_monitor.logs.checkpoints import step_in
from sr_monitor.logs.columns import step_columns
from sr_monitor.logs.console import read_console
from sr_monitor.logs.dumps import harness_files, is_harness_result, validation_dumps
from sr_monitor.logs.tables import header_of, is_page_export
from sr_monitor.logs.tensorboard import event_files, event_folders, has_scalars
from sr_monitor.logs.text import ending, first_row, json_object, json_value

FORMATS = (
    *("sr", "trl", "verl", "openrlhf", "tensorboard", "wandb", "csv", "jsonl"),
    *("swift", "llamafactory", "areal", "nemo-rl", "slime", "lm-eval", "console"),
)
# Files that hold a folder's run, the most complete first.
_METRICS = ("logging.jsonl", "trainer_log.jsonl", "metrics.jsonl")
_CONSOLES = (".log", ".out", ".txt")
_DEEPEST = 3


def detect(path: Path) -> str:
    """The format of the log at ``path``. Raises MonitorError where it cannot be told."""
    found = _detected(path)
    if found is None:
        if path.is_dir() and any(path.rglob("*.wandb")):
            raise MonitorError(
                f"{path}: a run in Weights & Biases' own format; wandb sync it, then export its history as CSV"
            )
        where = "in this directory; give the log's file" if path.is_dir() else "; name it with --format"
        raise NothingYet(f"{path}: no log of a known kind {where}".replace("kind ;", "kind;"))
    return found


def _detected(path: Path) -> str | None:
    if path.is_dir():
        return _of_folder(path)
    if ".tfevents." in path.name:
        return "tensorboard"
    suffix = ending(path)
    if suffix in (".csv", ".tsv"):
        return "wandb" if _from_wandb(header_of(path)) else "csv"
    if suffix == ".jsonl" or first_row(path):
        return _of_lines(path)
    if suffix == ".json":
        value = json_value(path)
        if is_harness_result(value):
            return "lm-eval"
        return "trl" if not isinstance(value, dict) or "log_history" in value or not columns_of(value) else "jsonl"
    if suffix in ("", ".txt") and step_columns(header_of(path)):
        return "csv"
    printed = read_console(path)
    return printed.kind or ("console" if printed.services else None)


def _of_folder(path: Path) -> str | None:
    return own_kind(path) or ("tensorboard" if event_files(path) else None)


def own_kind(path: Path) -> str | None:
    """The kind of the one log that a folder itself is; None where logs lie only deeper, or not at all."""
    if (path / "metrics.jsonl").exists() and _of_lines(path / "metrics.jsonl") == "sr":
        return "sr"
    if (path / "trainer_state.json").exists():
        return "trl"
    if (file := metrics_file(path)) is not None:
        return _of_lines(file)
    if trainer_states(path):
        return "trl"
    if validation_dumps(path):
        return "verl"
    if any(p.is_file() for p in path.glob("*tfevents*")):
        return "tensorboard"
    return "lm-eval" if harness_files(path) else None


def _of_lines(path: Path) -> str:
    """The kind of a JSONL file, from its first row."""
    first = first_row(path)
    keys = set(first)
    if path.name == "metrics.jsonl" and (not keys or {"campaign", "decision", "heldout_pass1"} & keys):
        return "sr"
    if {"step", "data"} <= keys and isinstance(first.get("data"), dict):
        return "verl"
    if "global_step/max_steps" in keys:
        return "swift"
    if {"current_steps", "total_steps"} <= keys:
        return "llamafactory"
    return "jsonl"


def _from_wandb(header: list[str]) -> bool:
    return is_page_export(header) or "_step" in header


def columns_of(value: dict[str, Any]) -> dict[str, list[Any]]:
    """The columns of a table ``{"step": [...], "reward": [...]}``, or with index and value as pandas writes it."""
    columns = {name: [*column.values()] if isinstance(column, dict) else column for name, column in value.items()}
    table = bool(step_columns(columns)) and all(isinstance(column, list) for column in columns.values())
    return columns if table else {}


def metrics_file(folder: Path) -> Path | None:
    """The metrics file of a known name in ``folder``."""
    return next((folder / name for name in _METRICS if (folder / name).is_file()), None)


def trainer_states(folder: Path) -> list[Path]:
    """The trainer_state.json files of one output folder of transformers."""
    return [*folder.glob("trainer_state.json"), *folder.glob("checkpoint-*/trainer_state.json")]


def newest_state(folder: Path) -> Path | None:
    """The trainer_state.json with the most steps: of checkpoints the newest one only is read."""
    states = trainer_states(folder)
    newest = sorted(states, key=lambda p: (p.parent == folder, step_in(p.parent.name) or 0))
    if len(newest) > 1 and newest[-1].parent == folder:  # the folder's own state may be older than its checkpoints
        return max(newest[-2:], key=lambda p: (json_object(p).get("global_step", 0), p.parent == folder))
    return newest[-1] if newest else None


def places_below(path: Path) -> list[Path]:
    """The runs below a folder that is no log itself: runs of our own if there are any, else the outermost logs."""
    for pattern in ("*/metrics.jsonl", "*/*/metrics.jsonl"):
        ours = [p.parent for p in sorted(path.glob(pattern)) if _of_lines(p) == "sr"]
        if ours:
            order = list(json_object(path / "summary.json"))  # a demo's summary names its runs in their order
            return sorted(ours, key=lambda p: (order.index(p.name) if p.name in order else len(order), p))
    return _outermost(path, _DEEPEST)


def _outermost(path: Path, depth: int) -> list[Path]:
    files = [p for p in sorted(path.iterdir()) if p.is_file() and ending(p) in (".csv", ".tsv", ".jsonl", *_CONSOLES)]
    found = [p for p in files if _could_be_log(p)]
    for folder in sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")):
        if own_kind(folder) == "tensorboard":
            found += event_folders(folder)
        elif own_kind(folder) is not None:
            found.append(folder)
        elif depth > 1:
            found += _outermost(folder, depth - 1)
    # of TensorBoard's folders, those without a number yet are left out
    return [p for p in found if p.is_file() or own_kind(p) != "tensorboard" or has_scalars(p)]


def _could_be_log(path: Path) -> bool:
    """Whether a file beside others is a log; samples and data, which hold no steps, lie in the same folders."""
    try:
        kind = _detected(path)
        if kind == "jsonl":
            return bool(step_columns(first_row(path)))
        return kind is not None and (kind != "csv" or bool(step_columns(header_of(path))))
    except (MonitorError, OSError, UnicodeDecodeError):
        return False
