"""What can be said of a run's directory without torch: whether it may be started in, what its JSON files say."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sr_core.errors import RunError

__all__ = ["RUN", "SUMMARY", "check_new", "read_run", "read_summary", "run_name", "to_resume"]

RUN = "run.json"
SUMMARY = "summary.json"
SUMMARY_KEYS = ("start", "peak", "peak_step", "peak_campaign", "end", "kept", "campaigns")


def check_new(folder: Path) -> None:
    """Raise RunError unless ``folder`` is absent or empty (but for what a kill may leave of its first file)."""
    if folder.exists() and (not folder.is_dir() or any(p.name != f"{RUN}.tmp" for p in folder.iterdir())):
        hint = f"continue it with: {to_resume(folder)}" if (folder / RUN).exists() else "give another --out"
        raise RunError(f"the output folder must be new or empty, and {str(folder)!r} is not: {hint}")


def to_resume(folder: Path) -> str:
    """The command that continues the run in ``folder``, as a shell takes it."""
    return f"sr resume {shlex.quote(str(folder))}"


def run_name(config: Mapping[str, Any], seed: int, folder: Path) -> str:
    """A name for a new run in a memory that several runs share. ``run.json`` keeps it, for a folder that moves."""
    text = f"{config} {seed} {folder.resolve()}"
    return f"{folder.resolve().name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def read_run(folder: Path) -> dict[str, Any]:
    """What ``run.json`` says. Raises RunError when there is none, or none that can be read."""
    if not (folder / RUN).exists():
        raise RunError(f"a run directory must hold {RUN}, {str(folder)!r} does not: give the --out of a run")
    return _read_object(folder / RUN, "put a copy back, or start a new run")


def read_summary(folder: Path) -> dict[str, Any]:
    """What ``summary.json`` of a complete run says. Raises RunError when it is not the summary of one."""
    way_out = f"remove it, then make it again from the last checkpoint: {to_resume(folder)}"
    summary = _read_object(folder / SUMMARY, way_out)
    if lacking := [key for key in SUMMARY_KEYS if key not in summary]:
        raise RunError(f"{SUMMARY} of {str(folder)!r} must hold {', '.join(lacking)}, it does not: {way_out}")
    return summary


def _read_object(path: Path, way_out: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RunError(f"{path.name} of {str(path.parent)!r} must be JSON, it is not ({error}): {way_out}") from error
    if not isinstance(value, dict):
        got = type(value).__name__
        raise RunError(f"{path.name} of {str(path.parent)!r} must hold an object, got {got}: {way_out}")
    return value
