"""Runs from the logs of this and other trainers. Every reader turns files into raw rows; ``records`` cleans them.

sr           a run directory: metrics.jsonl with run.json, summary.json, samples.jsonl where present
trl          trainer_state.json (or a directory with checkpoints), a JSON list of log rows, or the dicts on a console
verl         the file logger's JSONL, a console log, or trainer.validation_data_dir
openrlhf     a console log, or its TensorBoard directory
areal, nemo-rl, slime  their console logs
tensorboard  event files; every directory that holds some is a run, with all that lies below it
wandb        a CSV export, of the page or of the API
swift        logging.jsonl of ms-swift
llamafactory trainer_log.jsonl
lm-eval      results of lm-evaluation-harness, one per checkpoint
csv, jsonl   tables, of any trainer
console      lines with a step and numbers, of any trainer
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from sr_monitor.analysis.runs import Candidate, Run
from sr_monitor.errors import MonitorError, NothingYet
from sr_monitor.logs.checkpoints import checkpoints_near
from sr_monitor.logs.columns import advice, candidates, command, unknown
from sr_monitor.logs.console import read_console
from sr_monitor.logs.detect import FORMATS, columns_of, detect, metrics_file, newest_state, own_kind, places_below
from sr_monitor.logs.dumps import read_harness, read_validation_dumps, validation_dumps
from sr_monitor.logs.records import RawRow, Size, clean
from sr_monitor.logs.services import how_to_get
from sr_monitor.logs.tables import read_table
from sr_monitor.logs.tensorboard import event_folders, read_events
from sr_monitor.logs.text import UNPACKING_FAILED, ending, first_row, json_object, json_value, jsonl

__all__ = ["FORMATS", "Unreadable", "detect", "read_run", "read_runs", "read_some", "runs_of"]

Parts = list[tuple[str, list[RawRow]]]


@dataclass
class _Read:
    """What a reader finds beside the rows. services: where the metrics went."""

    notes: list[str] = field(default_factory=list)
    services: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A path that could not be read, and why."""

    path: Path
    reason: str
    empty: bool = False  # it may be the log of a run that has just begun


def read_some(
    paths: Sequence[Path | str],
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    size: Size | None = None,
) -> tuple[list[Run], list[Unreadable]]:
    """The runs of several logs, and the logs that cannot be read. Raises MonitorError where none can be,
    NothingYet where all are still without rows."""
    runs: list[Run] = []
    bad: list[Unreadable] = []
    for path in map(Path, paths):
        places: list[Path] = []
        with _noting(path, bad):
            places = _places(path, format)
        for place in places:
            with _noting(place, bad):
                runs += _read_place(path, place, format, columns, size)
    if not runs:
        kind = NothingYet if all(one.empty for one in bad) else MonitorError
        raise kind("; ".join(one.reason for one in bad))
    return runs, bad


@contextmanager
def _noting(path: Path, bad: list[Unreadable]) -> Iterator[None]:
    """What cannot be read inside is added to ``bad``."""
    try:
        yield
    except MonitorError as error:
        bad.append(Unreadable(path=path, reason=str(error), empty=isinstance(error, NothingYet)))
    except OSError as error:
        bad.append(Unreadable(path=path, reason=_unreadable(path, error)))


def _unreadable(path: Path, error: OSError) -> str:
    return f"{path}: cannot be read, {error.strerror}; check the path and its rights"


def runs_of(items: Sequence[Path | str | Run]) -> list[Run]:
    """The runs among ``items``, and those at the paths among them."""
    return [run for item in items for run in ([item] if isinstance(item, Run) else read_runs(item))]


def read_runs(
    path: Path | str, format: str = "auto", columns: Mapping[str, str] | None = None, size: Size | None = None
) -> list[Run]:
    """The runs at ``path``: one, or several where a directory or a table holds several.

    ``columns``: our name -> the log's name; ``heldout`` names the column to judge. ``size``: of one evaluation, where
    the log does not say it. Raises MonitorError for what is missing, malformed or not a log.
    """
    path = Path(path)
    return [run for place in _places(path, format) for run in _read_place(path, place, format, columns, size)]


def _read_place(
    path: Path, place: Path, format: str, columns: Mapping[str, str] | None, size: Size | None
) -> list[Run]:
    """The runs at ``place``, one of the places of ``path``; below it they are named by where they lie."""
    if format != "auto" and format not in FORMATS:
        raise MonitorError(f"format: must be auto, {', '.join(FORMATS)}, got {format!r}")
    if not place.exists():
        raise MonitorError(f"{place}: no such file or directory")
    if not place.is_dir() and not place.is_file():
        raise MonitorError(f"{place}: a pipe or a device, which can be read only once; save it to a file")
    runs = _read(place, format, columns, size)
    if place == path or any(run.format == "sr" for run in runs):
        return runs
    return [replace(run, name=_named(place.relative_to(path), run)) for run in runs]


def _places(path: Path, format: str) -> list[Path]:
    """The files and folders that hold the runs of a path: itself, or several below a folder."""
    if not path.is_dir():
        return [path]
    if format in ("tensorboard", "openrlhf"):
        return event_folders(path) or [path]
    if (format == "auto" and own_kind(path) is not None) or format not in ("auto", "sr"):
        return [path]
    return [path] if (path / "metrics.jsonl").exists() else places_below(path) or [path]


def _named(inner: Path, run: Run) -> str:
    """The name of a run that lies at ``inner`` below the given folder."""
    own = run.path.stem if run.path.is_file() else run.path.name
    return f"{inner.as_posix()} {run.name.removeprefix(own).strip()}".strip()


def read_run(
    path: Path, format: str = "auto", columns: Mapping[str, str] | None = None, size: Size | None = None
) -> Run:
    """The run at ``path``; of several, an error that says so."""
    runs = _read(path, format, columns, size)
    if len(runs) > 1:
        raise MonitorError(
            f"{path}: holds {len(runs)} runs, {', '.join(run.name for run in runs[:5])}; read_runs gives all"
        )
    return runs[0]


def _read(path: Path, format: str, columns: Mapping[str, str] | None, size: Size | None) -> list[Run]:
    """The runs of one file, or of one directory that is a log."""
    beside = _Read()
    try:
        kind = detect(path) if format == "auto" else format
        parts = _READERS[kind](path, beside)
    except OSError as error:
        raise MonitorError(_unreadable(path, error)) from error
    except UNPACKING_FAILED as error:
        raise MonitorError(f"{path}: cannot be unpacked, {error}; is it whole?") from error
    if not any(rows for _, rows in parts):
        if beside.services:
            return [_elsewhere(path, kind, beside)]
        raise NothingYet(f"{path}: holds no row of a {kind} log; name its kind with --format")
    return [_run(path, kind, part, columns or {}, size or Size(), beside) for part in parts]


def _run(
    path: Path, kind: str, part: tuple[str, list[RawRow]], columns: Mapping[str, str], size: Size, beside: _Read
) -> Run:
    inner, rows = part
    try:
        cleaned = clean(rows, columns, size)
    except MonitorError as error:
        raise MonitorError(f"{path}: {error}") from error
    name = path.stem if path.is_file() else path.resolve().name
    found = cleaned.found
    run = Run(
        path=path,
        name=f"{name} {inner}".strip() if inner else name,
        format=kind,
        records=cleaned.records,
        metric=found.metric,
        notes=(*beside.notes, *cleaned.notes),
        columns=found.signals,
    )
    if kind == "sr":
        folder = path if path.is_dir() else path.parent
        return replace(
            run,
            config=json_object(folder / "run.json"),
            summary=json_object(folder / "summary.json"),
            samples=tuple(jsonl(folder / "samples.jsonl", [])),
        )
    if found.metric is not None:
        return run
    likely = candidates(cleaned.values, cleaned.rows, found.signals)
    more = (how_to_get(beside.services),) if beside.services and not likely else ()
    return replace(
        run,
        notes=(*run.notes, *more),
        candidates=tuple(
            Candidate(column=c, evaluations=len(cleaned.values[c]), command=command(str(path), c)) for c in likely
        ),
        unknown=tuple(unknown(cleaned.values, found.signals)),
        checkpoints=checkpoints_near(path, cleaned.records[-1].step),
        advice=advice(kind, set(cleaned.values)),
    )


def _elsewhere(path: Path, kind: str, beside: _Read) -> Run:
    """A log without metrics that says where they went."""
    return Run(
        path=path,
        name=path.stem,
        format=kind,
        records=(),
        metric=None,
        notes=(how_to_get(beside.services),),
        checkpoints=checkpoints_near(path),
    )


def _sr(path: Path, beside: _Read) -> Parts:
    return [("", [*jsonl(path / "metrics.jsonl" if path.is_dir() else path, beside.notes, needed=True)])]


def _trl(path: Path, beside: _Read) -> Parts:
    if path.is_dir():
        state = newest_state(path)
        if state is None:
            raise MonitorError(f"{path}: no trainer_state.json here or in checkpoint-*; give the file")
        path = state
    if ending(path) != ".json":
        return _console(path, beside, "trl")
    state_of = json_value(path)
    rows = state_of.get("log_history") if isinstance(state_of, dict) else state_of
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise MonitorError(f"{path}: neither a trainer state with 'log_history' nor a list of log rows")
    return [("", [*rows])]


def _verl(path: Path, beside: _Read) -> Parts:
    if path.is_dir():
        if validation_dumps(path):
            return [("", read_validation_dumps(path, beside.notes))]
        raise MonitorError(f"{path}: no STEP.jsonl of verl's validation here; give the log's file")
    if not first_row(path):
        return _console(path, beside, "verl")
    rows: list[RawRow] = []
    for row in jsonl(path, beside.notes, needed=True):
        data = row.get("data")
        rows.append({**(data if isinstance(data, Mapping) else row), "step": row.get("step")})
    return [("", rows)]


def _openrlhf(path: Path, beside: _Read) -> Parts:
    if path.is_dir() or ".tfevents." in path.name:
        return read_events(path, beside.notes)
    return _console(path, beside, "openrlhf")


def _console(path: Path, beside: _Read, kind: str = "console") -> Parts:
    printed = read_console(path)
    beside.notes += printed.notes
    beside.services |= printed.services
    return [("", printed.rows_of(kind))]


def _of_kind(kind: str) -> Callable[[Path, _Read], Parts]:
    def read(path: Path, beside: _Read) -> Parts:
        return _console(path, beside, kind)

    return read


def _tensorboard(path: Path, beside: _Read) -> Parts:
    return read_events(path, beside.notes)


def _harness(path: Path, beside: _Read) -> Parts:
    return [("", read_harness(path, beside.notes))]


def _table(path: Path, beside: _Read) -> Parts:
    if path.is_dir():
        file = metrics_file(path)
        if file is None:
            raise MonitorError(f"{path}: is a directory; give the table's file")
        path = file
    if ending(path) == ".json" and not first_row(path):
        table = columns_of(json_object(path))
        length = min((len(column) for column in table.values()), default=0)
        return [("", [{name: column[i] for name, column in table.items()} for i in range(length)])]
    return read_table(path, beside.notes)


_READERS: Mapping[str, Callable[[Path, _Read], Parts]] = {
    "sr": _sr,
    "trl": _trl,
    "verl": _verl,
    "openrlhf": _openrlhf,
    **{kind: _of_kind(kind) for kind in ("areal", "nemo-rl", "slime", "console")},
    "tensorboard": _tensorboard,
    "lm-eval": _harness,
    **dict.fromkeys(("wandb", "csv", "jsonl", "swift", "llamafactory"), _table),
}
