"""What a person sees while a run goes on: a live table on a terminal, plain lines where the output is piped.

All of it goes to stderr, so that stdout stays free for results.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sr_cli.launched import leads

Row = dict[str, Any]
BARS = "▁▂▃▄▅▆▇█"
SHOWN = 8  # rows of the live table


def percent(value: float | None) -> str:
    """A share as a percentage; a dash where there is none."""
    return "–" if value is None else f"{100 * value:.1f}%"


def movement(row: Row) -> str:
    """Nats per token that a step moved the policy by, and how often it was shortened for it."""
    moved, shortened = row.get("step_kl"), row.get("step_shortened")
    if moved is None:
        return "–"
    return f"{moved:.2g}" + (f" ↓{shortened}" if shortened else "")


def sparkline(values: list[float | None]) -> str:
    """One character per value in [0, 1], a space where there is none."""
    return "".join(" " if v is None else BARS[min(int(v * len(BARS)), len(BARS) - 1)] for v in values)


def curve(values: dict[str, list[float | None]], *, height: int = 8, width: int = 64) -> str:
    """A plot of one or more series in [0, 1] over steps, one letter each (the series' first), made of text."""
    longest = max(map(len, values.values()))
    columns = min(longest, width)
    grid = [[" "] * columns for _ in range(height)]
    for name, series in values.items():
        for step, value in enumerate(series):
            if value is not None:
                column = step * (columns - 1) // max(longest - 1, 1)
                grid[height - 1 - min(int(value * height), height - 1)][column] = name[0]
    lines = [f"{100 * (height - i) // height:>4}% │{''.join(line)}" for i, line in enumerate(grid)]
    axis = f"   0% └{'─' * columns}"
    return "\n".join([*lines, axis, f"       step 0{'':{max(columns - 9 - len(str(longest - 1)), 1)}}{longest - 1}"])


def line(row: Row, label: str = "") -> str:
    """A row in one line of plain text."""
    decision = row["decision"]
    text = (
        f"{label}campaign {row['campaign']} step {row['step']:>3}  reward {percent(row['train_reward']):>6}  "
        f"held-out {percent(row['heldout_pass1']):>6}  {decision['action']}"
    )
    return text if decision["action"] == "continue" else f"{text}: {decision['reason']}"


class View:
    """Shows the rows of one run or of several at once; ``show`` takes each row as it is written."""

    def __init__(self, console: Console, live: Live | None, steps: int) -> None:
        self.console = console
        self.live = live
        self.steps = steps
        self.runs: dict[str, list[Row]] = {}

    def show(self, row: Row, label: str = "") -> None:
        """The run ``label`` has written a row."""
        self.runs.setdefault(label, []).append(row)
        if self.live is None:
            self.console.print(line(row, label and f"{label:>9}: "), highlight=False, soft_wrap=True)
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
            Text(f"held-out pass@1  {sparkline(heldout)}"),
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
