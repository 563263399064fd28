"""Rows of a run to TensorBoard, W&B, trackio or MLflow, through accelerate."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sr_core.errors import RunError

__all__ = ["tracker"]


@contextmanager
def tracker(
    name: str, project: str, folder: Path, config: Mapping[str, Mapping[str, Any]]
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Send the numbers of each row to the tracker ``name``, unless that is ``none``; only the first process sends.

    ``config``: the run's by section, which the tracker records. Steps are counted over all campaigns, so that a resumed
    run overwrites what it repeats. Raises RunError where the tracker's package is missing or does not start.
    """
    if name == "none":
        yield lambda row: None
        return
    if importlib.util.find_spec(name) is None:
        raise RunError(f"tracking.name {name!r} needs the package {name}, it is not installed: pip install {name}")
    from accelerate import Accelerator

    accelerator = Accelerator(log_with=name, project_dir=str(folder))
    settings = {f"{s}.{k}": _scalar(v) for s, section in config.items() for k, v in section.items()}
    try:
        accelerator.init_trackers(project, config=settings)
    except (ImportError, OSError, RuntimeError, ValueError) as error:
        raise RunError(f"tracking.name {name!r} does not start ({error}): fix that, or use 'none'") from error
    if not accelerator.trackers:
        raise RunError(f"tracking.name {name!r} needs a newer accelerate or {name}: these two do not go together")

    def track(row: Mapping[str, Any]) -> None:
        numbers = {key: value for key, value in row.items() if isinstance(value, (int, float))}
        accelerator.log(numbers, step=row["campaign"] * (config["campaign"]["steps"] + 1) + row["step"])

    try:
        yield track
    finally:
        for started in accelerator.trackers:
            started.finish()


def _scalar(value: object) -> object:
    """``value`` as trackers take it: lists and the like as text."""
    return value if isinstance(value, (bool, int, float, str)) else str(value)
