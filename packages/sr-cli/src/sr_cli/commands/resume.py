"""``sr resume``: continue a killed or interrupted run."""

from __future__ import annotations

from pathlib import Path

import click

from sr_cli.commands.run import show_summary
from sr_cli.launched import leads
from sr_core.runs.run_dir import SUMMARY, read_run, read_summary


@click.command(epilog="Example:  sr resume runs/first")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
def command(folder: Path, as_json: bool) -> None:
    """Continue the run in DIR from its last checkpoint, bit-identical to a run that was never cut."""
    read_run(folder)  # a demo's folder has a summary, too
    if (folder / SUMMARY).is_file():
        summary = read_summary(folder)
        if leads():
            click.echo(f"sr: the run in {folder} is complete", err=True)
        show_summary(summary, folder, as_json)
        return
    from sr_cli.config import describe_run
    from sr_cli.console import viewing

    described = describe_run(folder)
    campaign = described.config.train.campaign
    with viewing(campaign.count * campaign.steps) as view:
        from sr_cli import runs  # torch, only once the run is known to be one

        summary = runs.resume(described, folder, view.show)
    show_summary(summary, folder, as_json)
