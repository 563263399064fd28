"""Runs out of TensorBoard folders: a run per folder, and per restart in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sr_monitor.errors import MonitorError
from sr_monitor.logs.records import RawRow
from sr_monitor.logs.tfevents import scalars


def event_files(path: Path) -> list[Path]:
    """The event files at or below ``path``."""
    if path.is_file():
        return [path]
    return sorted(p for p in path.rglob("*tfevents*") if p.is_file())


def event_folders(path: Path) -> list[Path]:
    """The outermost directories at or below ``path`` that hold event files; of several, those with a number in one."""
    holding = sorted({file.parent for file in event_files(path)})
    outermost = [folder for folder in holding if not any(parent in holding for parent in folder.parents)]
    return outermost if len(outermost) < 2 else [folder for folder in outermost if has_scalars(folder)]


def has_scalars(path: Path) -> bool:
    """Whether an event file at or below ``path`` holds a number."""
    return any(True for file in event_files(path) for _ in scalars(file))


def read_events(path: Path, notes: list[str]) -> list[tuple[str, list[RawRow]]]:
    """(name, rows) of every run in a folder; the name is empty where there is one only.

    A file that logs tags of an earlier one continues it where its steps go on, with the later values where they
    overlap, and is a run of its own where they start again. Files with other tags belong to the run before them.
    """
    files = event_files(path)
    if not files:
        raise MonitorError(f"{path}: no event file (events.out.tfevents.*) here or below")
    runs: list[list[RawRow]] = []
    begun: dict[str, int] = {}  # tag -> its first step in the run in progress
    for file in files:
        rows: dict[int, dict[str, Any]] = {}  # one a step: what says its campaign must stand beside the rest
        first: dict[str, int] = {}
        for step, tag, value in scalars(file):
            rows.setdefault(step, {"step": step})[tag] = value
            first[tag] = min(first.get(tag, step), step)
        shared = [tag for tag in first if tag in begun]
        if not runs or (shared and all(first[tag] <= begun[tag] for tag in shared)):
            runs.append([])
            begun = {}
        runs[-1].extend(rows.values())
        begun = {**first, **begun}
    runs = [run for run in runs if run]
    if len(runs) > 1:
        notes.append(f"the folder holds {len(runs)} runs, one per restart")
        return [(f"restart {number}" if number else "first start", run) for number, run in enumerate(runs)]
    return [("", runs[0] if runs else [])]
