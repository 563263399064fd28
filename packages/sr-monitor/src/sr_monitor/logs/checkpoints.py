"""Checkpoints that lie beside a log, by the names that trainers give them."""

from __future__ import annotations

import re
from pathlib import Path

# transformers checkpoint-50, verl global_step_50, OpenRLHF global_step50_hf, slime iter_0000050, hand-written step_50
_STEP = re.compile(r"(?:checkpoint|ckpt|global_?step|step|iter)[-_]?0*(\d+)", re.IGNORECASE)
_FOLDER = re.compile(r"(?:checkpoint|ckpt|global_?step|step|iter)[-_]?0*(\d+)(?:[-_](?:hf|merged))?", re.IGNORECASE)
_WEIGHTS = (".pt", ".pth", ".safetensors", ".bin")
_MOST_LISTED = 5000


def step_in(text: str) -> int | None:
    """The step that a path or a model's name says, the last one if several; None if none."""
    found = _STEP.findall(text)
    return int(found[-1]) if found else None


def checkpoints_near(log: Path) -> tuple[tuple[int, Path], ...]:
    """(step, path) of the checkpoints in the log's folder, up to two folders below it, in the order of their steps."""
    folder = log if log.is_dir() else log.parent
    while _FOLDER.fullmatch(folder.name):
        folder = folder.parent
    found: dict[int, Path] = {}
    listed = 0
    for pattern in ("*", "*/*", "*/*/*"):
        for path in sorted(folder.glob(pattern)):
            listed += 1
            if listed > _MOST_LISTED:
                return tuple(sorted(found.items()))
            if _FOLDER.fullmatch(path.name) and path.is_dir():
                found.setdefault(step_in(path.name) or 0, path)
            elif path.suffix in _WEIGHTS and (step := step_in(path.stem)) is not None:
                found.setdefault(step, path)
    return tuple(sorted(found.items()))
