"""The options of commands that read logs: paths, format, columns, the size of an evaluation."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from sr_monitor import Run
from sr_monitor.logs.detect import FORMATS
from sr_monitor.logs.readers import Unreadable, read_some
from sr_monitor.logs.records import Size


@dataclass(frozen=True, kw_only=True)
class LogOptions:
    """What the user gave; ``columns``: our name -> the log's."""

    paths: tuple[Path, ...]
    format: str
    columns: dict[str, str]
    size: Size

    def read(self) -> tuple[list[Run], list[Unreadable]]:
        """The runs, and the paths that cannot be read beside them."""
        return read_some(self.paths, self.format, self.columns, self.size)


def log_options(command: Callable[..., None]) -> Callable[..., None]:
    """Adds PATH…, --format, --column, --tasks and --samples; the command gets them as ``logs``."""

    @click.argument("paths", nargs=-1, required=True, metavar="PATH…", type=click.Path(path_type=Path))
    @click.option("--format", "kind", type=click.Choice(["auto", *FORMATS]), default="auto", show_default=True)
    @click.option(
        "--column",
        "columns",
        multiple=True,
        metavar="OURS=THEIRS",
        help="The log's name for heldout (what to judge), step, train_reward, ...; repeatable.",
    )
    @click.option("--tasks", type=int, help="Held-out tasks of one evaluation, where the log does not say it.")
    @click.option("--samples", type=int, help="Samples per held-out task, where the log does not say it.")
    @functools.wraps(command)
    def wrapped(
        paths: tuple[Path, ...],
        kind: str,
        columns: tuple[str, ...],
        tasks: int | None,
        samples: int | None,
        **rest: Any,
    ) -> None:
        size = Size(tasks=tasks, samples=samples)
        command(logs=LogOptions(paths=paths, format=kind, columns=_mapping(columns), size=size), **rest)

    return wrapped


def _mapping(columns: tuple[str, ...]) -> dict[str, str]:
    pairs = [column.partition("=") for column in columns]
    for (ours, equals, theirs), given in zip(pairs, columns, strict=True):
        if not (ours and equals and theirs):
            raise click.UsageError(f"--column must read OURS=THEIRS, got {given!r}")
    return {ours: theirs for ours, _, theirs in pairs}
