"""Following logs that are still being written."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path


def changes_of(paths: Sequence[Path], poll_s: float) -> Iterator[None]:
    """Yields at once, and again each time that a file at or below ``paths`` has changed, ``poll_s`` apart at least.

    Endless. A log that does not grow is not read again and again.
    """
    seen = tuple(_files(paths))
    yield
    while True:
        time.sleep(poll_s)
        now = tuple(_files(paths))
        if now != seen:
            seen = now
            yield


def _files(paths: Sequence[Path]) -> Iterator[tuple[Path, int, int]]:
    """(file, size, time of its last change); beside a file the summary that ends a run of our own."""
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path, path.with_name("summary.json")]:
            try:
                state = file.stat()
            except OSError:  # not there yet, or removed in between, as old checkpoints are
                continue
            yield file, state.st_size, state.st_mtime_ns
