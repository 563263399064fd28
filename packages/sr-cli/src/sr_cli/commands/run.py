"""``sr run``: one campaign or a chain of them."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from sr_cli.launched import leads


@click.command(
    epilog="Example:  sr run --preset testbed --set guard.name=collapse --set campaign.count=3 --out runs/first"
)
@click.argument("config_file", metavar="[CONFIG.toml]", required=False, type=click.Path(path_type=Path))
@click.option("--preset", default="testbed", show_default=True, help="Start from these settings.")
@click.option("--set", "settings", multiple=True, metavar="KEY.PATH=VALUE", help="Change one setting; repeatable.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The new directory of the run.")
@click.option("--seed", default=0, show_default=True, help="Seed of every random draw.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
def command(
    config_file: Path | None, preset: str, settings: tuple[str, ...], out: Path, seed: int, as_json: bool
) -> None:
    """Run one campaign or a chain of them, as a preset, a file and --set say (later ones win)."""
    from sr_cli.config import load_config
    from sr_cli.console import viewing
    from sr_core.runs.run_dir import check_new

    config = load_config(config_file, preset, settings)
    if leads():  # the others may come to it when this one has begun
        check_new(out)
    with viewing(config.train.campaign.count * config.train.campaign.steps) as view:
        from sr_cli import runs  # torch, only once the input is known to be good

        summary = runs.start(config, out, seed, view.show)
    show_summary(summary, out, as_json)


def show_summary(summary: dict[str, object], out: Path, as_json: bool) -> None:
    """Print a run's summary: a table, or one JSON object."""
    if not leads():
        return
    from sr_cli.console import print_json, print_table, summary_table

    if as_json:
        print_json(summary)
    else:
        print_table(summary_table({"run": summary}))
        click.echo(f"Written to {out}. Next: sr report {shlex.quote(str(out))}")
