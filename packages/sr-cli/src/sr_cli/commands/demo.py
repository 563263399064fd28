"""``sr demo``: the phenomenon, the guard and measured steps, side by side, on the shipped policy and the embedded
tasks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

# The guard evaluates without a budget, so that both runs are evaluated alike and their curves can be compared. Measured
# steps have half the samples and a quarter of the evaluations, so that all three end within the demo's time.
RUNS = {
    "unguarded": ["guard.name=none"],
    "guarded": ["guard.name=collapse", "guard.budget=1"],
    "measured": ["guard.name=none", "optim.step=measured", "sampling.prompts=8", "evaluate.every=8"],
}
NEXT = """What to try next:
  sr run --preset testbed --set guard.name=collapse --set campaign.count=3 --out runs/chain    a chain of campaigns
  sr run --preset testbed --set optim.step=measured --out runs/measured      no learning rate to find
  sr watch {out}/unguarded        the verdict on a run, from its log
  sr report {out}                 the report again"""


@click.command(epilog="Example:  sr demo --out sr-demo --seed 1")
@click.option("--out", type=click.Path(path_type=Path), help="The new directory of the demo.  [default: sr-demo]")
@click.option("--seed", default=0, show_default=True, help="Seed of every random draw.")
@click.option("--json", "as_json", is_flag=True, help="Print all summaries as one JSON object.")
def command(out: Path | None, seed: int, as_json: bool) -> None:
    """Train the shipped policy on the same tasks in three ways: at a fixed rate it rises and collapses; with a guard it
    keeps its peak; with steps of a measured size (and half the samples) it rises without a collapse.

    Takes about six minutes on two cores. Every number is measured on this machine, now.
    """
    from sr_cli.console import print_json
    from sr_core.runs.atomic_io import write_json
    from sr_core.runs.run_dir import check_new
    from sr_monitor.report.figures import write_figure
    from sr_monitor.report.html import write_report

    out = out or _free(Path("sr-demo"))
    check_new(out)
    began = time.monotonic()
    rows = _run_all(out, seed)
    summaries = {name: json.loads((out / name / "summary.json").read_text()) for name in RUNS}
    write_json(out / "summary.json", summaries)
    write_figure([out], out / "curves.png")
    write_report([out], out / "report.html")
    if as_json:
        print_json(summaries)
        return
    _show(summaries, rows, out, time.monotonic() - began)


def _run_all(out: Path, seed: int) -> dict[str, list[Mapping[str, Any]]]:
    """The `sr run`s side by side, on half the cores each: policies this small do not fill more. Returns their rows."""
    from sr_cli.config import load_config
    from sr_cli.console import viewing

    threads = str(max(1, (os.cpu_count() or 1) // 2))
    environment = {**os.environ, "OMP_NUM_THREADS": threads}
    started: dict[str, subprocess.Popen[str]] = {}
    with viewing(load_config(None, "testbed", []).train.campaign.steps) as view:
        try:
            for name, settings in RUNS.items():
                command = [sys.executable, "-m", "sr_cli", "run", "--preset", "testbed", "--seed", str(seed)]
                command += [part for setting in settings for part in ("--set", setting)] + ["--out", str(out / name)]
                started[name] = subprocess.Popen(
                    command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
                )
            seen = dict.fromkeys(started, 0)
            while True:
                going = [process.poll() is None for process in started.values()]
                for name in started:
                    for row in _rows(out / name)[seen[name] :]:
                        seen[name] += 1
                        view.show(row, name)
                if not any(going):
                    break
                time.sleep(0.2)
        finally:
            for process in started.values():
                process.terminate()
            errors = {name: process.communicate()[1] for name, process in started.items()}
    for name, process in started.items():
        if process.returncode:
            last = [text for text in errors[name].splitlines() if text.strip()][-1:]
            raise click.UsageError(f"the {name} run failed: {' '.join(last).removeprefix('sr: ')}")
    return view.runs


def _rows(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.jsonl"
    return [json.loads(text) for text in path.read_text().split("\n")[:-1]] if path.exists() else []


def _free(wish: Path) -> Path:
    """``wish``, or the first of ``wish-2``, ``wish-3`` … that does not exist."""
    path, number = wish, 1
    while path.exists():
        number += 1
        path = wish.with_name(f"{wish.name}-{number}")
    return path


def _show(summaries: dict[str, Any], rows: Mapping[str, list[Mapping[str, Any]]], out: Path, seconds: float) -> None:
    from sr_cli.console import print_table, summary_table
    from sr_monitor.report.terminal import chart, percent

    click.echo("\nHeld-out pass@1 over training steps (u = unguarded, g = guarded, m = measured)")
    points = {name: [(row["step"], row["heldout_pass1"]) for row in run] for name, run in rows.items()}
    click.echo(chart({name[0]: [(s, v) for s, v in curve if v is not None] for name, curve in points.items()}))
    print_table(summary_table(summaries))
    audits = {name: summary["audit"] for name, summary in summaries.items()}
    for name, audit in audits.items():
        ended = "kept" if name == "guarded" else "left with"
        click.echo(
            f"{name}: from {percent(audit['start'])} up to {percent(audit['peak'])}, {ended} {percent(audit['kept'])} "
            f"(audit set: {audit['tasks']} tasks never used for decisions, {audit['samples']} samples each)"
        )
    click.echo(f"\nTook {seconds:.0f} s. Open {out}/report.html (curves: {out}/curves.png).\n\n{NEXT.format(out=out)}")
