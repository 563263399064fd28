"""A curve and a verdict as plain text, for a terminal of any width."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from sr_monitor.analysis.runs import Run
from sr_monitor.analysis.verdict import Verdict

# Characters that command a terminal or that a page cannot hold; text keeps its newlines and tabs.
_UNSHOWN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_BLOCKS = " ▁▂▃▄▅▆▇█"
_SHOWN = (
    *("train_reward", "entropy", "unique_share", "length", "truncated", "zero_std_groups"),
    *("grad_norm", "kl", "step_kl"),
)


def visible(text: str) -> str:
    """Foreign text that is safe to show: what is no visible character becomes a replacement character."""
    return _UNSHOWN.sub("\ufffd", text)


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


def plot(
    steps: Sequence[int],
    values: Sequence[float],
    *,
    width: int = 60,
    height: int = 10,
    scale: tuple[float, float] | None = None,
) -> str:
    """A chart over steps: dots on a grid with its axes labelled. scale: (low, high); None for pass rates, 0 to 1."""
    return chart({"●": list(zip(steps, values, strict=True))}, width=width, height=height, scale=scale)


def chart(
    series: Mapping[str, Sequence[tuple[int, float]]],
    *,
    width: int = 60,
    height: int = 10,
    scale: tuple[float, float] | None = None,
) -> str:
    """Several series of (step, value) on one grid, each drawn with its own character; later ones over earlier ones."""
    steps = [step for points in series.values() for step, _ in points]
    first, last = min(steps, default=0), max(steps, default=0)
    span = max(1, last - first)
    low, high = scale or (0.0, 1.0)
    grid = [[" "] * width for _ in range(height)]
    for mark, points in series.items():
        for step, value in points:
            column = round((step - first) / span * (width - 1))
            share = (value - low) / (high - low) if high > low else 0.5
            row = round((1 - min(1.0, max(0.0, share))) * (height - 1))
            grid[row][column] = mark
    lines = []
    for row, cells in enumerate(grid):
        level = low + (high - low) * (1 - row / (height - 1))
        label = f"{100 * level:4.0f}%" if scale is None else f"{level:7.3g}"
        lines.append(f"{label} ┤{''.join(cells)}".rstrip())
    margin = " " * (6 if scale is None else 8)
    ticks = f"{first}".ljust(width - len(str(last))) + f"{last}" if last > first else f"{first}"
    return "\n".join([*lines, f"{margin}└{'─' * width}", f"{margin} {ticks}"])


def percent(value: float | None) -> str:
    """A share as a percentage with one digit; a dash where there is none."""
    return "–" if value is None else f"{100 * value:.1f}%"


def place_of(run: Run) -> str:
    """The run's path in one line, with its name where that tells several runs of one file or folder apart."""
    inner = run.name.removeprefix(run.path.stem if run.path.is_file() else run.path.name).strip()
    return " ".join((f"{run.path} ({inner})" if inner else f"{run.path}").splitlines())


def view(run: Run, verdict: Verdict, width: int = 80) -> str:
    """What is known about ``run`` now: curve, signals, last decision, verdict with its reason."""
    lines = [f"{place_of(run)}: {verdict.verdict.upper().replace('_', ' ')}", *_wrapped(verdict.reason, width)]
    if not run.campaigns:
        return visible("\n".join(lines))
    campaign = run.campaigns[-1]
    curve = campaign.curve
    if curve is not None and run.metric is not None:
        count = len(curve.steps)
        title = f"{run.metric.label}, campaign {campaign.number}, {count} evaluation{'s' if count > 1 else ''}"
        rate = run.metric.kind == "pass_rate"
        scale = None if rate else (float(curve.values_E.min()), float(curve.values_E.max()))
        chart = plot(curve.steps, curve.values_E.tolist(), width=max(20, width - (12 if rate else 14)), scale=scale)
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
    return visible("\n".join([*lines, *(line for note in run.notes for line in _wrapped(f"note: {note}", width))]))


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of at most ``width`` columns, indented; continuation lines are indented further."""
    return textwrap.wrap(text, max(20, width), initial_indent="  ", subsequent_indent="    ")


def movement(row: Mapping[str, Any]) -> str:
    """Nats per token that a step moved the policy by, and how often it was shortened for it."""
    moved, shortened = row.get("step_kl"), row.get("step_shortened")
    if moved is None:
        return "–"
    return f"{moved:.2g}" + (f" ↓{shortened}" if shortened else "")


def row_text(row: Mapping[str, Any], label: str = "") -> str:
    """A row in one line of plain text."""
    decision = row["decision"]
    text = (
        f"{label}campaign {row['campaign']} step {row['step']:>3}  reward {percent(row['train_reward']):>6}  "
        f"held-out {percent(row['heldout_pass1']):>6}  {decision['action']}"
    )
    return text if decision["action"] == "continue" else f"{text}: {decision['reason']}"
