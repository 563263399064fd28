"""Room on the disk, asked for before the work whose result is to be written."""

from __future__ import annotations

import shutil
from pathlib import Path

from sr_core.errors import RunError

__all__ = ["require_room"]

SPARE = 1 << 24  # bytes for what is small: rows, tokenizers, reports


def require_room(folder: Path, needed: int, what: str) -> None:
    """Raise RunError unless the disk of ``folder`` (which need not exist) has ``needed`` bytes for ``what``."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed + SPARE:
        raise RunError(
            f"{what} needs {_size(needed + SPARE)} on the disk of {str(folder)!r}, which has {_size(free)} free: make "
            "room, or give a folder on another disk"
        )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"
