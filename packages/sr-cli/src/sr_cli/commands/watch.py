"""``sr watch``: judge runs from their logs."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

from sr_monitor import MonitorError, Run, Verdict, judge, read_runs
from sr_monitor.logs.readers import FORMATS
from sr_monitor.report.terminal import view

POLL_S = 1.0


@click.command(
    epilog="Examples: sr watch runs/a --follow | sr watch trainer_state.json log.csv --json "
    "| sr watch log.csv --column heldout_pass1=eval_accuracy"
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--format", "kind", type=click.Choice(["auto", *FORMATS]), default="auto", show_default=True)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="OURS=THEIRS",
    help="The log's name for step, heldout_pass1, ... ; repeatable.",
)
@click.option("--follow", is_flag=True, help="Keep reading until every run is finished, or Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def command(paths: tuple[Path, ...], kind: str, columns: tuple[str, ...], follow: bool, as_json: bool) -> None:
    """Judge runs, ours or another trainer's, from their logs: healthy, at_risk, collapsed or insufficient.

    A fall counts as real when a policy that never changes would seldom show it, given how the run was evaluated.
    """
    mapping = _mapping(columns)

    def read() -> list[tuple[Run, Verdict]]:
        return [(run, judge(run)) for path in paths for run in read_runs(path, kind, mapping)]

    judged = _follow(read, show=not as_json) if follow else read()
    if as_json:
        click.echo(json.dumps({"runs": [verdict.to_json() for _, verdict in judged]}, allow_nan=False))
    elif not follow:
        click.echo("\n\n".join(_view(run, verdict) for run, verdict in judged))


def _mapping(columns: tuple[str, ...]) -> dict[str, str]:
    pairs = [column.partition("=") for column in columns]
    for (ours, equals, theirs), given in zip(pairs, columns, strict=True):
        if not (ours and equals and theirs):
            raise click.UsageError(f"--column must read OURS=THEIRS, got {given!r}")
    return {ours: theirs for ours, _, theirs in pairs}


def _follow(read: Callable[[], list[tuple[Run, Verdict]]], *, show: bool) -> list[tuple[Run, Verdict]]:
    """Read again and again until all runs are finished or the user interrupts; the last reading."""
    seen: dict[Path, int] = {}
    judged: list[tuple[Run, Verdict]] = []
    live = show and sys.stdout.isatty()
    try:
        while True:
            try:
                judged = read()
            except MonitorError:  # a log that is being rewritten; one that could never be read is the user's to mend
                if not judged:
                    raise
            changed = [(run, verdict) for run, verdict in judged if seen.get(run.path) != len(run.records)]
            seen = {run.path: len(run.records) for run, _ in judged}
            if live and changed:
                click.clear()
                click.echo("\n\n".join(_view(run, verdict) for run, verdict in judged))
            elif show:
                for run, verdict in changed:
                    step = run.records[-1].step
                    click.echo(f"{run.path} step {step}: {verdict.verdict}. {verdict.reason}")
            if all(run.finished for run, _ in judged):
                return judged
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        return judged


def _view(run: Run, verdict: Verdict) -> str:
    return view(run, verdict, width=min(100, shutil.get_terminal_size((80, 24)).columns))
