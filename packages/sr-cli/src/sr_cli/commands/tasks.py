"""``sr tasks select``: the tasks that a policy sometimes solves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sr_cli.console import sampling_options
from sr_monitor.report.progress import Progress


@click.group()
def command() -> None:
    """Choose tasks to train on.

    Example: sr tasks select --policy runs/started --tasks mbpp.jsonl --out some.jsonl
    """


@command.command(epilog="Example:  sr tasks select --policy runs/started --tasks mbpp.jsonl --out some.jsonl")
@sampling_options(samples=8)
@click.option("--low", type=float, help="The lowest pass rate to keep, inclusive.  [default: above 0]")
@click.option("--high", type=float, help="The highest pass rate to keep, inclusive.  [default: below 1]")
@click.option("--pool", multiple=True, help="Count samples of an earlier .raw.jsonl or selection, too.")
@click.option("--dry-run", is_flag=True, help="Show pass rates, write nothing.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The new file of tasks.")
def select(
    low: float | None, high: float | None, pool: tuple[str, ...], dry_run: bool, out: Path, **given: Any
) -> None:
    """Keep the tasks whose pass rate lies between the bounds, and whose own reference passes.

    Samples are kept in OUT-samples, so that the same command goes on where it was interrupted.
    """
    from sr_cli.assemble import make_judge, make_sampler, read_evaluation
    from sr_reward.formats import Skipped
    from sr_reward.grading.selection import Bounds, rows_of, select_tasks

    samples, seed = given.pop("samples"), given.pop("seed")
    bounds, config, skipped = Bounds(low=low, high=high), read_evaluation(**given), Skipped()
    tasks, place = rows_of(given["source"], skipped), None if dry_run else out
    if skipped.count:
        click.echo(f"sr tasks select: {skipped.describe()}", err=True)
    sampler, progress = make_sampler(config, samples, seed), Progress(what="tasks")
    with make_judge(config) as grader:
        said = select_tasks(tasks, sampler, grader, bounds, out=place, pool=pool, on_task=progress.of)
    click.echo("\n".join(said))
