"""A curve and a verdict as plain text, for a terminal of any width."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from sr_monitor.analysis.runs import Run
from sr_monitor.analysis.verdict import Verdict

_BLOCKS = " ▁▂▃▄▅▆▇█"
_SHOWN = ("train_reward", "entropy", "unique_share", "length", "truncated", "zero_std_groups", "grad_norm", "kl")


def sparkline(values: Sequence[float | None], width: int = 60, top: float | None = None) -> str:
    """One line of blocks; ``values`` are squeezed into ``width`` columns, gaps stay blank. Scaled 0..top (or max)."""
    known = [v for v in values if v is not None and math.isfinite(v)]
    if not known:
        return ""
    low, high = min(0.0, *known), top if top is not None else max(known)
    span = (high - low) or 1.0
    columns = min(width, len(values))
    cells = []
    for column in range(columns):
        begin, end = column * len(values) // columns, (column + 1) * len(values) // columns
        part = [v for v in values[begin:end] if v is not None and math.isfinite(v)]
        height = (sum(part) / len(part) - low) / span if part else 0.0
        cells.append(_BLOCKS[max(1, round(min(1.0, height) * 8))] if part else " ")
    return "".join(cells)


def plot(steps: Sequence[int], values: Sequence[float], *, width: int = 60, height: int = 10) -> str:
    """A chart of pass@1 (0 to 1) over steps: dots on a grid with its axes labelled."""
    first, last = min(steps), max(steps)
    span = max(1, last - first)
    grid = [[" "] * width for _ in range(height)]
    for step, value in zip(steps, values, strict=True):
        column = round((step - first) / span * (width - 1))
        row = round((1 - min(1.0, max(0.0, value))) * (height - 1))
        grid[row][column] = "●"
    lines = []
    for row, cells in enumerate(grid):
        level = 100 * (1 - row / (height - 1))
        lines.append(f"{level:4.0f}% ┤{''.join(cells)}".rstrip())
    ticks = f"{first}".ljust(width - len(str(last))) + f"{last}" if last > first else f"{first}"
    return "\n".join([*lines, f"      └{'─' * width}", f"       {ticks}"])


def view(run: Run, verdict: Verdict, width: int = 80) -> str:
    """What is known about ``run`` now: curve, signals, last decision, verdict with its reason."""
    campaign = run.campaigns[-1]
    curve = campaign.trajectory
    lines = [f"{run.path}: {verdict.verdict.upper().replace('_', ' ')}", *_wrapped(verdict.reason, width)]
    if curve is not None:
        count = len(curve.steps)
        title = f"held-out pass@1, campaign {campaign.number}, {count} evaluation{'s' if count > 1 else ''}"
        chart = plot(curve.steps, curve.pass1_E.tolist(), width=max(20, width - 12))
        lines += ["", *_wrapped(title, width), *(f"  {line}" for line in chart.split("\n"))]
    for name in _SHOWN:
        values = [record.signals.get(name) for record in campaign.records]
        line = sparkline(values, width=max(10, width - 32))
        if line:
            last = next(v for v in reversed(values) if v is not None)
            lines.append(f"  {name:<16} {line} {last:.3g}")
    decided = [r for r in campaign.records if r.decision.get("action") in ("roll_back", "stop")]
    for r in decided[-5:]:
        told = f"step {r.step}: {r.decision['action']} ({r.decision.get('rule')}) {r.decision.get('reason') or ''}"
        lines += _wrapped(told, width)
    return "\n".join([*lines, *(line for note in run.notes for line in _wrapped(f"note: {note}", width))])


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` columns, indented; those that continue another stand further in."""
    return textwrap.wrap(text, max(20, width), initial_indent="  ", subsequent_indent="    ")
