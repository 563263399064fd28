"""``sr demo``: the phenomenon, the guard and measured steps, on the same policy and the embedded tasks."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from sr_cli.console import View

# The guard evaluates without a budget, so that all runs are evaluated alike and their curves can be compared.
RUNS = {
    "unguarded": ("guard.name=none", "optim.step=fixed"),
    "guarded": ("guard.name=collapse", "guard.budget=1", "optim.step=fixed"),
    "measured": ("guard.name=none", "optim.step=measured"),
}

# Policy to preset. A real model first imitates solutions, and trains in one run after the other: each fills all cores.
PRESETS = {"pocket-rich": "testbed-demo", "smollm2-135m": "smollm2-135m-demo"}
NEXT = """What to try next:
  sr run --preset testbed --set guard.name=collapse --set campaign.count=3 --out runs/chain    a chain of campaigns
  sr run --preset testbed --set optim.step=measured --out runs/measured      no learning rate to find
  sr watch {unguarded}        the verdict on a run, from its log"""


@click.command(epilog="Example:  sr demo --out sr-demo --seed 1")
@click.option("--policy", type=click.Choice(list(PRESETS)), default="pocket-rich", show_default=True, help="To train.")
@click.option("--out", type=click.Path(path_type=Path), help="Its directory, or one to continue.  [default: sr-demo]")
@click.option("--seed", default=0, show_default=True, help="Seed of every random draw.")
@click.option("--json", "as_json", is_flag=True, help="Print all summaries as one JSON object.")
def command(policy: str, out: Path | None, seed: int, as_json: bool) -> None:
    """Train a policy on the same tasks in three ways: at a fixed rate it rises and collapses; with a guard it keeps its
    peak; with steps of a measured size it rises without a collapse.

    Takes three minutes on two cores, 20 to 30 with smollm2-135m. Every number is measured here and now.
    """
    from sr_cli.console import print_json
    from sr_core.runs.atomic_io import write_json
    from sr_monitor.report.figures import write_figure
    from sr_monitor.report.html import write_report

    out, began = _folder(out, {"policy": policy, "seed": seed}), time.monotonic()
    try:
        rows = _run_all(out, policy, seed)
    except KeyboardInterrupt:
        click.echo(f"sr: what is done is in {out}; the same command continues", err=True)
        raise
    summaries = {name: json.loads((out / name / "summary.json").read_text()) for name in RUNS}
    write_json(out / "summary.json", summaries)
    write_figure([out], out / "curves.png")
    write_report([out], out / "report.html")
    if as_json:
        print_json(summaries)
        return
    _show(summaries, rows, out, time.monotonic() - began)


def _folder(out: Path | None, asked: Mapping[str, Any]) -> Path:
    """``out``, or the first of ``sr-demo``, ``sr-demo-2`` … that is new or holds this demo cut short."""
    from sr_core.runs.atomic_io import write_json
    from sr_core.runs.run_dir import SUMMARY, check_new

    def cut_short(path: Path) -> bool:
        mark = path / "demo.json"
        return mark.exists() and not (path / SUMMARY).exists() and json.loads(mark.read_text()) == asked

    if out is None:
        names = map(Path, chain(["sr-demo"], (f"sr-demo-{number}" for number in count(2))))
        out = next(path for path in names if not path.exists() or cut_short(path))
    if not cut_short(out):
        check_new(out)
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "demo.json", asked)
    return out


def _run_all(out: Path, policy: str, seed: int) -> dict[str, list[Mapping[str, Any]]]:
    """The rows of each run: small policies side by side, on half the cores each; a real model in turns, on all."""
    from sr_cli.config import load_config
    from sr_cli.console import viewing

    preset, environment, shared = PRESETS[policy], dict(os.environ), [f"policy.path={policy}"]
    with viewing(load_config(None, preset, []).train.campaign.steps) as view:
        if real := policy != "pocket-rich":
            if not (start := out / "started").exists():
                view.console.print("a warm start on reference solutions, some minutes; then three runs")
                call = ["warm-start", "--policy", policy, "--tasks", "testbed", "--out", str(start)]
                _follow({"warm start": call}, out, environment, view)
            shared = [f"policy.path={start}"]
        else:
            environment["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // 2))
        calls = {}
        for name, own in RUNS.items():
            changes = [part for setting in (*shared, *own) for part in ("--set", setting)]
            calls[name] = ["run", "--preset", preset, "--seed", str(seed), *changes, "--out", str(out / name)]
            if (out / name / "run.json").exists():
                calls[name] = ["resume", str(out / name)]
        for group in [{name: call} for name, call in calls.items()] if real else [calls]:
            _follow(group, out, environment, view)
    return view.runs


def _follow(calls: Mapping[str, list[str]], out: Path, environment: dict[str, str], view: View) -> None:
    """Run these ``sr`` commands at once and show their rows. Raises click.UsageError when one fails, with its error."""
    from sr_core.studies.jobs import why_it_failed

    started: dict[str, subprocess.Popen[str]] = {}
    try:
        for name, call in calls.items():
            command = [sys.executable, "-m", "sr_cli", *call]
            started[name] = subprocess.Popen(
                command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
        seen, going = dict.fromkeys(calls, 0), True
        while going:
            going = any(process.poll() is None for process in started.values())  # asked first: then all rows are there
            for name in calls:
                for row in _rows(out / name)[seen[name] :]:
                    seen[name] += 1
                    view.show(row, name)
            time.sleep(0.2)
    finally:
        for process in started.values():
            process.terminate()
        errors = {name: process.communicate()[1] for name, process in started.items()}
    for name, process in started.items():
        if process.returncode:
            raise click.UsageError(f"the {name} run failed: {why_it_failed(process.returncode, errors[name])}")


def _rows(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.jsonl"
    return [json.loads(text) for text in path.read_text().split("\n")[:-1]] if path.exists() else []


def _show(summaries: dict[str, Any], rows: Mapping[str, list[Mapping[str, Any]]], out: Path, seconds: float) -> None:
    from sr_cli.console import print_table, summary_table
    from sr_monitor.report.terminal import chart

    click.echo("\nHeld-out pass@1 over training steps (u = unguarded, g = guarded, m = measured)")
    points = {name: [(row["step"], row["heldout_pass1"]) for row in run] for name, run in rows.items()}
    click.echo(chart({name[0]: [(s, v) for s, v in curve if v is not None] for name, curve in points.items()}))
    print_table(summary_table(summaries))
    following = NEXT.format(unguarded=shlex.quote(str(out / "unguarded")))
    click.echo(f"\nTook {seconds:.0f} s. Open {out}/report.html (curves: {out}/curves.png).\n\n{following}")
