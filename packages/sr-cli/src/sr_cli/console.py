"""What commands show: rows of a run while it goes on, its summary, progress, and JSON for programs.

Progress goes to stderr, so that stdout stays free for results.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from typing import Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sr_cli.launched import leads
from sr_monitor.report.terminal import movement, percent, row_text, sparkline

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")
Row = Mapping[str, Any]
SHOWN = 8  # rows of the live table
MEASURED = ("start", "peak", "end", "kept")


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on stdout."""
    click.echo(json.dumps(value, allow_nan=False))


def print_result(as_json: bool, value: Mapping[str, Any], lines: Iterable[str]) -> None:
    """The result of a command on stdout: as JSON for programs, or as lines for people."""
    if as_json:
        print_json(value)
    else:
        click.echo("\n".join(lines))


def print_table(table: Table) -> None:
    """A table on stdout, at least 120 columns wide where that is no terminal."""
    console = Console()
    console = Console(width=max(console.width, 120)) if not console.is_terminal else console
    console.print(table)


def summary_table(summaries: Mapping[str, Mapping[str, Any]]) -> Table:
    """Start, peak, end and kept of each summary, on held-out tasks and, where measured, on the audit set."""
    table = Table("run", "measured on", *MEASURED, "peak at step")
    for name, summary in summaries.items():
        at = str(summary["peak_step"])
        if len(summary["campaigns"]) > 1:
            at += f" of campaign {summary['peak_campaign']}"
        table.add_row(name, "held-out", *(percent(summary[key]) for key in MEASURED), at)
        if "audit" in summary:
            table.add_row("", "audit", *(percent(summary["audit"][key]) for key in MEASURED), "")
    return table


def sampling_options(samples: int) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options of commands that sample from a policy on tasks."""
    options = [
        click.option("--policy", required=True, help="A shipped or known name, a Hugging Face folder or a GGUF file."),
        click.option("--tasks", "source", required=True, help="A task file, or testbed."),
        click.option("--samples", type=click.IntRange(1), default=samples, show_default=True, help="For each task."),
        click.option("--temperature", default=0.7, show_default=True, help="Of sampling: as a rule that of training."),
        click.option("--seed", default=0, show_default=True, help="Seed of every random draw."),
        click.option(
            "--set",
            "settings",
            multiple=True,
            help="[policy], [sampling], [sandbox] as in sr run: policy.prompt=chat",
        ),
    ]
    return lambda command: reduce(lambda made, option: option(made), reversed(options), command)


class View:
    """Shows the rows of one run or of several at once; ``show`` takes each row as it is written."""

    def __init__(self, console: Console, live: Live | None, steps: int) -> None:
        self.console, self.live, self.steps = console, live, steps
        self.runs: dict[str, list[Row]] = {}

    def show(self, row: Row, label: str = "") -> None:
        """The run ``label`` has written a row."""
        self.runs.setdefault(label, []).append(row)
        if self.live is None:
            self.console.print(row_text(row, label and f"{label:>9}: "), highlight=False, soft_wrap=True)
        else:
            self.live.update(Group(*(self._panel(name, rows) for name, rows in self.runs.items())), refresh=True)

    def _panel(self, label: str, rows: list[Row]) -> Group:
        columns = ("campaign", "step", "reward", "held-out pass@1", "entropy", "movement", "s/step", "decision")
        table = Table(*columns, expand=False)
        for row in rows[-SHOWN // len(self.runs) :]:
            entropy = row["entropy"]
            table.add_row(
                str(row["campaign"]),
                str(row["step"]),
                percent(row["train_reward"]),
                percent(row["heldout_pass1"]),
                "–" if entropy is None else f"{entropy:.2f}",
                movement(row),
                f"{sum(row['seconds'].values()):.2f}",
                row["decision"]["action"],
            )
        heldout = [row["heldout_pass1"] for row in rows][-100:]
        done = sum(row["step"] > 0 for row in rows)
        acted = [row["decision"]["reason"] for row in rows if row["decision"]["action"] != "continue"][-2:]
        return Group(
            Text(f"{label or 'run'}: {done} of at most {self.steps} steps", style="bold"),
            Padding(ProgressBar(total=max(self.steps, 1), completed=done, width=60), 0),  # the bar alone ends no line
            Text(f"held-out pass@1  {sparkline(heldout, width=100, top=1.0)}"),
            table,
            *(Text(f"→ {reason}", style="yellow") for reason in acted),
        )


@contextmanager
def viewing(steps: int) -> Iterator[View]:
    """A view on stderr of runs of at most ``steps`` steps, live where stderr is a terminal and this process leads."""
    console = Console(stderr=True)
    if not console.is_terminal or not leads():
        yield View(console, None, steps)
        return
    with Live(Text("loading torch and the policy …", style="dim"), console=console, auto_refresh=False) as live:
        live.refresh()
        view = View(console, live, steps)
        try:
            yield view
        finally:
            if not view.runs:
                live.update(Text(), refresh=True)
