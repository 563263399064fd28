"""Checkpoints that lie beside a log, by the names that trainers give them."""

from __future__ import annotations

import itertools
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


def checkpoints_near(log: Path, last: int | None = None) -> tuple[tuple[int, Path], ...]:
    """(step, path) of the checkpoints in the log's folder, up to two folders below it, in the order of their steps.

    Of several folders with checkpoints the nearest one counts; one with steps beyond ``last``, the last step of the
    log, belongs to another run.
    """
    folder = log if log.is_dir() else log.parent
    while _FOLDER.fullmatch(folder.name):
        folder = folder.parent
    found: dict[Path, dict[int, Path]] = {}
    paths = itertools.chain.from_iterable(sorted(folder.glob(pattern)) for pattern in ("*", "*/*", "*/*/*"))
    for path in itertools.islice(paths, _MOST_LISTED):
        step = step_in(path.name)
        whole = path.is_dir() and _FOLDER.fullmatch(path.name)
        inside = any(_FOLDER.fullmatch(parent.name) for parent in path.relative_to(folder).parents)
        if step is not None and (whole or (path.suffix in _WEIGHTS and not inside)):
            found.setdefault(path.parent, {}).setdefault(step, path)
    groups = [group for group in found.values() if last is None or max(group) <= last]
    return tuple(sorted(groups[0].items())) if groups else ()
