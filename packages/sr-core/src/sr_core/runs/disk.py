"""Room on the disk, asked for before the work whose result is to be written."""

from __future__ import annotations

import shutil
from pathlib import Path

from torch import nn

from sr_core.config import TrainConfig
from sr_core.errors import RunError
from sr_core.protocols import Guard

__all__ = ["require_room", "require_room_for_run", "run_bytes"]

SPARE = 1 << 24  # bytes for what is small: rows, tokenizers, reports
CHECKPOINTS = 3  # the last two, and the one that is being written
RETAINED = 4  # policies on disk besides: the first one and, of three checkpoints, a peak each


def require_room(folder: Path, needed: int, what: str) -> None:
    """Raise RunError unless the disk of ``folder`` (which need not exist) has ``needed`` bytes for ``what``."""
    there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(there).free
    if free < needed + SPARE:
        raise RunError(
            f"{what} needs {_size(needed + SPARE)} on the disk of {str(folder)!r}, which has {_size(free)} free: make "
            "room, or give a folder on another disk"
        )


def require_room_for_run(folder: Path, model: nn.Module, config: TrainConfig, guard: Guard | None) -> None:
    """``require_room`` for what a run of ``model`` has on disk at its largest (``run_bytes``)."""
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    needed = run_bytes(model, config, moments=guard is not None and not guard.reset_optimizer)
    require_room(folder, needed, f"a run that trains {count:,} weights (checkpoints, retained and kept policies)")


def run_bytes(model: nn.Module, config: TrainConfig, *, moments: bool) -> int:
    """Bytes that a run has on disk at its largest, about: checkpoints, retained policies and the policy it keeps.

    Weights are written as the optimizer has them (float32 or wider) with two moments of each, and with their mean where
    ``optim.average`` is on; frozen ones are not. ``moments``: retained policies have theirs, too.
    """
    weights = sum(p.numel() * max(p.element_size(), 4) for p in model.parameters() if p.requires_grad)
    checkpoint = (4 if config.optim.average else 3) * weights
    retained = (3 if moments else 1) * weights
    return CHECKPOINTS * checkpoint + RETAINED * retained + weights


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.0f} MB"
