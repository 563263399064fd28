"""``sr demo``: the phenomenon and the guard, side by side, on the shipped policy and the embedded tasks."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click

NEXT = """What to try next:
  sr run --preset testbed --set controller.name=guard --set campaign.count=3 --out runs/chain    a chain of campaigns
  sr run --preset testbed --set optim.lr=1e-4 --out runs/slow                a learning rate that does not collapse
  sr watch {out}/unguarded        the verdict on a run, from its log
  sr report {out}                 the report again"""


@click.command(epilog="Example:  sr demo --out sr-demo --seed 1")
@click.option("--out", type=click.Path(path_type=Path), help="The new directory of the demo.  [default: sr-demo]")
@click.option("--seed", default=0, show_default=True, help="Seed of every random draw.")
@click.option("--json", "as_json", is_flag=True, help="Print both summaries as one JSON object.")
def command(out: Path | None, seed: int, as_json: bool) -> None:
    """Train the shipped policy twice on the same tasks: unguarded, it rises and collapses; guarded, it keeps its peak.

    Takes about three minutes on two cores. Nothing is simulated: every number is measured on this machine, now.
    """
    from sr_cli.config import load_config
    from sr_cli.live import viewing

    out = out or _free(Path("sr-demo"))
    from sr_monitor.figures import write_figure
    from sr_monitor.report import write_report

    from sr_cli import runs
    from sr_core import RunStore

    began = time.monotonic()
    summaries: dict[str, Any] = {}
    rows: dict[str, list[dict[str, Any]]] = {}
    with viewing(0) as view:
        for name, controller in (("unguarded", "none"), ("guarded", "guard")):
            config = load_config(None, "testbed", [f"controller.name={controller}"])
            view.begin(name, config.campaign.steps)
            summaries[name] = runs.start(config, out / name, seed, view.show)
            rows[name] = view.rows
    RunStore(out).write_json("summary.json", summaries)
    write_figure([out], out / "curves.png")
    write_report([out], out / "report.html")
    if as_json:
        click.echo(json.dumps(summaries))
        return
    _show(summaries, rows, out, time.monotonic() - began)


def _free(wish: Path) -> Path:
    """``wish``, or the first of ``wish-2``, ``wish-3`` … that does not exist."""
    path, number = wish, 1
    while path.exists():
        number += 1
        path = wish.with_name(f"{wish.name}-{number}")
    return path


def _show(summaries: dict[str, Any], rows: dict[str, list[dict[str, Any]]], out: Path, seconds: float) -> None:
    from rich.console import Console

    from sr_cli.live import curve, percent
    from sr_cli.tables import summary_table

    console = Console()
    console.print("\nHeld-out pass@1 over training steps (u = unguarded, g = guarded)", style="bold")
    series = {name: [row["heldout_pass1"] for row in run] for name, run in rows.items()}
    click.echo(curve(series))
    console.print(summary_table(summaries))
    audits = {name: summary["audit"] for name, summary in summaries.items()}
    for name, audit in audits.items():
        handed = "handed on" if name == "guarded" else "left with"
        console.print(
            f"{name}: from {percent(audit['start'])} up to {percent(audit['peak'])}, {handed} {percent(audit['kept'])} "
            f"(audit set: {audit['tasks']} tasks that no decision saw, {audit['samples']} samples each)",
            highlight=False,
        )
    click.echo(f"\nTook {seconds:.0f} s. Open {out}/report.html (curves: {out}/curves.png).\n\n{NEXT.format(out=out)}")
