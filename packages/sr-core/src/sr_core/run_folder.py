"""What can be said of a run's directory without torch: whether it may be started in, and what its ``run.json`` says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sr_core.errors import RunError

__all__ = ["RUN", "check_new", "read_run"]

RUN = "run.json"


def check_new(folder: Path) -> None:
    """Raise RunError unless ``folder`` is absent or empty (but for what a kill may leave of its first file)."""
    if folder.exists() and (not folder.is_dir() or any(p.name != f"{RUN}.tmp" for p in folder.iterdir())):
        hint = f"continue it with: sr resume {folder}" if (folder / RUN).exists() else "give another --out"
        raise RunError(f"the output folder must be new or empty, and {str(folder)!r} is not: {hint}")


def read_run(folder: Path) -> dict[str, Any]:
    """What ``run.json`` says. Raises RunError when there is none, or none that can be read."""
    try:
        run = json.loads((folder / RUN).read_text())
    except FileNotFoundError:
        raise RunError(f"a run directory must hold {RUN}, {str(folder)!r} does not: give the --out of a run") from None
    except (OSError, ValueError) as error:
        raise RunError(f"{RUN} of {str(folder)!r} must be JSON, it is not ({error})") from error
    if not isinstance(run, dict):
        raise RunError(f"{RUN} of {str(folder)!r} must hold an object, got {type(run).__name__}")
    return run
