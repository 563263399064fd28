"""``sr report``: one HTML file and the figures from run directories or logs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from sr_cli.logs import LogOptions, log_options


@click.command(
    epilog="Examples: sr report sr-demo --out demo.html | sr report log.csv --column heldout=eval_accuracy --tasks 500"
)
@log_options
@click.option(
    "--out", type=click.Path(path_type=Path), help="The file to write; default: report.html in the first PATH's folder."
)
def command(logs: LogOptions, out: Path | None) -> None:
    """Write report.html (self-contained, works offline) and curves.png, curves.svg from run directories or logs."""
    from sr_monitor.report.figures import write_figure
    from sr_monitor.report.html import write_report

    runs, bad = logs.read()
    first = logs.paths[0] if logs.paths[0].is_dir() else logs.paths[0].parent
    target = out if out is not None else first / "report.html"
    write_report(runs, target)
    figure = target.with_name("curves.png" if out is None else f"{target.stem}-curves.png")
    write_figure(runs, figure)
    for path in (target, figure, figure.with_suffix(".svg")):
        click.echo(str(path))
    for one in bad:
        click.echo(f"could not be read: {one.reason}", err=True)
    if bad:
        sys.exit(1)
