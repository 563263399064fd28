"""``sr watch``: judge runs from their logs."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable

import click

from sr_cli.console import print_json
from sr_cli.logs import LogOptions, log_options
from sr_monitor import MonitorError, NothingYet, Run, Verdict, judge
from sr_monitor.analysis.verdict import VERDICTS
from sr_monitor.logs.follow import changes_of
from sr_monitor.logs.readers import Unreadable
from sr_monitor.report.terminal import place_of, view, visible

POLL_S = 1.0
Reading = tuple[list[tuple[Run, Verdict]], list[Unreadable]]


@click.command(
    epilog="Examples: sr watch runs/a --follow | sr watch trainer_state.json log.csv --json "
    "| sr watch log.csv --column heldout=eval_accuracy --tasks 500 | sr watch out/ --fail-on collapsed,at_risk"
)
@log_options
@click.option("--fail-on", metavar="VERDICT,…", default="", help=f"Exit with 1 on these: {', '.join(VERDICTS)}.")
@click.option("--follow", is_flag=True, help="Keep reading until every run is finished, or Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def command(logs: LogOptions, fail_on: str, follow: bool, as_json: bool) -> None:
    """Judge runs, ours or another trainer's, from their logs: healthy, at_risk, collapsed or insufficient.

    A fall counts as real when a policy that never changes would seldom show it, given how the run was evaluated.
    """
    failing = _verdicts(fail_on)

    def read() -> Reading:
        runs, bad = logs.read()
        return [(run, judge(run)) for run in runs], bad

    judged, bad = _follow(read, logs, show=not as_json) if follow else read()
    if as_json:
        print_json({"runs": [verdict.to_json() for _, verdict in judged]})
    elif not follow:
        click.echo("\n\n".join(_view(run, verdict) for run, verdict in judged))
    for one in bad:
        click.echo(f"could not be read: {one.reason}", err=True)
    if bad or any(verdict.verdict in failing for _, verdict in judged):
        sys.exit(1)


def _verdicts(text: str) -> set[str]:
    named = {part.strip() for part in text.split(",") if part.strip()}
    if odd := sorted(named - set(VERDICTS)):
        raise click.UsageError(f"--fail-on must name {', '.join(VERDICTS)}, got {', '.join(odd)}")
    return named


def _follow(read: Callable[[], Reading], logs: LogOptions, *, show: bool) -> Reading:
    """Read again and again until all runs are finished or the user interrupts; the last reading."""
    seen: dict[str, tuple[int, Verdict]] = {}
    judged: list[tuple[Run, Verdict]] = []
    bad: list[Unreadable] = []
    live = show and sys.stdout.isatty()
    try:
        for _ in changes_of(logs.paths, POLL_S):
            try:
                judged, bad = read()
            except MonitorError as error:  # of a log that is being rewritten, the last reading stands
                if not judged and not isinstance(error, NothingYet):
                    raise
                click.echo(f"waiting: {error}", err=True)
                continue
            now = {place_of(run): (len(run.records), verdict) for run, verdict in judged}
            changed = [(run, verdict) for run, verdict in judged if seen.get(place_of(run)) != now[place_of(run)]]
            seen = now
            if live and changed:
                click.clear()
                click.echo("\n\n".join(_view(run, verdict) for run, verdict in judged))
            elif show:
                for run, verdict in changed:
                    step = run.records[-1].step if run.records else "–"
                    click.echo(visible(f"{place_of(run)} step {step}: {verdict.verdict}. {verdict.reason}"))
            if all(run.finished for run, _ in judged):
                break
    except KeyboardInterrupt:
        if not judged:
            raise
    return judged, bad


def _view(run: Run, verdict: Verdict) -> str:
    return view(run, verdict, width=min(100, shutil.get_terminal_size((80, 24)).columns))
