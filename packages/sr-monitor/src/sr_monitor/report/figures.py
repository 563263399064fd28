"""Curves of held-out metrics with their noise, as PNG and SVG; colours differ for every kind of colour vision.

matplotlib is needed (extra ``report``) and loaded when a figure is drawn.
"""

from __future__ import annotations

import io
import itertools
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sr_monitor.analysis.margin import limits_of
from sr_monitor.analysis.runs import Campaign, Record, Run
from sr_monitor.errors import MonitorError
from sr_monitor.logs.readers import runs_of
from sr_monitor.report.terminal import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours that differ for every kind of colour vision; markers and dashes say the same once more.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("o", "s", "D", "^", "v", "P")
DASHES = ("-", "--", "-.", ":", "-", "--")
INK = "#1a1a1a"
INDICATORS = {
    "train_reward": "training reward",
    "entropy": "entropy (nats per token)",
    "unique_share": "distinct samples (share)",
    "length": "length (tokens)",
    "truncated": "truncated (share)",
    "zero_std_groups": "equal-reward groups (share)",
    "grad_norm": "gradient norm",
    "kl": "KL to the reference",
    "step_kl": "movement of a step (nats per token)",
}
MOST_NAMED = 6  # from the seventh run on colours and markers repeat
LONGEST_NAME = 60
_Z95 = 1.96


def write_figure(runs: Sequence[Path | str | Run], out: Path | str) -> None:
    """Draw ``runs``, or those at the paths given, and write PNG and SVG: ``out`` with either suffix."""
    figure = plot_curves(runs_of(runs))
    for suffix in (".png", ".svg"):
        save_figure(figure, Path(out).with_suffix(suffix))


def save_figure(figure: Figure, target: Path) -> None:
    """Write ``figure`` to ``target``, in the format of its suffix. The same figure gives the same bytes."""
    try:
        with target.open("wb") as file:
            _save(figure, file, target.suffix[1:])
    except OSError as error:
        raise MonitorError(f"{target}: cannot be written, {error.strerror}; choose another place") from error


def plot_curves(runs: Sequence[Run], *, title: str | None = None, width: float = 8.0, height: float = 4.2) -> Figure:
    """The held-out metric of every run over its steps, campaigns one after another; size in inches.

    The band is the 95% sampling noise of each evaluation. A triangle marks a roll-back, a cross a stop, a star the
    policy that was kept, a dotted line the onset of a collapse. Pass rates are in percent. Runs with pass rates, scores
    and losses are drawn in a panel for each.
    """
    if not runs:
        raise MonitorError("figure: at least one run is needed, got none")
    kinds = list(dict.fromkeys(run.metric.kind for run in runs if run.metric is not None)) or ["pass_rate"]
    figure, panels = new_panels(width, height, len(kinds))
    styles = zip(itertools.cycle(COLOURS), itertools.cycle(MARKERS), itertools.cycle(DASHES), strict=False)
    for run, (colour, marker, dash) in zip(runs, styles, strict=False):
        axes = panels[kinds.index(run.metric.kind) if run.metric is not None else 0]
        _draw_run(axes, run, colour, marker, dash)
    for axes, kind in zip(panels, kinds, strict=True):
        labels = list(dict.fromkeys(r.metric.label for r in runs if r.metric is not None and r.metric.kind == kind))
        label = labels[0] if len(labels) == 1 else f"held-out {kind.replace('_', ' ')}"
        axes.set_xlabel("gradient steps")
        axes.set_ylabel(shown(f"{label} (%)" if kind == "pass_rate" else label))
        if kind == "pass_rate":
            axes.set_ylim(-2, 102)
        _add_legend(axes)
    if title:
        panels[0].set_title(shown(title), loc="left", fontsize=11, color=INK)
    return figure


def plot_indicator(runs: Sequence[Run], name: str, *, width: float = 3.6, height: float = 2.1) -> Figure | None:
    """One training signal of every run over its steps; None where no run has it."""
    figure, axes = new_figure(width, height)
    drawn = False
    for run, colour, dash in zip(runs, itertools.cycle(COLOURS), itertools.cycle(DASHES), strict=False):
        points = [(x, r.signals[name]) for x, r in _placed(run) if name in r.signals]
        if points:
            drawn = True
            axes.plot(*zip(*points, strict=True), color=colour, linestyle=dash, linewidth=1.4)
    axes.set_title(INDICATORS.get(name, name), loc="left", fontsize=9, color=INK)
    axes.tick_params(labelsize=8)
    return figure if drawn else None


def svg_text(figure: Figure) -> str:
    """The figure as an ``<svg>`` element for an HTML page: no background, letters as text."""
    buffer = io.BytesIO()
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    _save(figure, buffer, "svg")
    text = buffer.getvalue().decode()
    return re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty figure in the style of all of them, and its axes; size in inches."""
    figure, panels = new_panels(width, height, 1)
    return figure, panels[0]


def new_panels(width: float, height: float, columns: int) -> tuple[Figure, list[Axes]]:
    """The same with several axes side by side."""
    try:
        from matplotlib.figure import Figure  # not pyplot: no global state, no display
    except ImportError as error:
        raise MonitorError("figure: matplotlib is needed; pip install matplotlib") from error
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = list(figure.subplots(1, columns, squeeze=False)[0])
    for axes in panels:
        axes.grid(visible=True, alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        for item in (axes.xaxis.label, axes.yaxis.label):
            item.set_color(INK)
        axes.tick_params(colors=INK)
        for spine in axes.spines.values():
            spine.set_color(INK)
    return figure, panels


def shown(text: str) -> str:
    """A name as matplotlib shows it: on one line, shortened, dollar signs and underscores without their meaning."""
    text = " ".join(visible(text).split())
    short = text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME // 2]}…{text[-LONGEST_NAME // 2 :]}"
    hidden = "\u200b" if short.startswith("_") else ""  # a legend leaves such names out
    return hidden + short.replace("$", r"\$")


def _add_legend(axes: Axes) -> None:
    """The names of the runs, of many runs only of the first ones."""
    handles, labels = axes.get_legend_handles_labels()
    if len(handles) > MOST_NAMED:
        labels[MOST_NAMED - 1] += f" and {len(handles) - MOST_NAMED} more"
    named = handles[:MOST_NAMED], labels[:MOST_NAMED]
    axes.legend(*named, frameon=False, fontsize=9, loc="best", labelcolor=INK)


def _draw_run(axes: Axes, run: Run, colour: str, marker: str, dash: str) -> None:
    style: dict[str, Any] = {"marker": marker, "linestyle": dash, "color": colour}
    axes.plot([], [], label=shown(run.name), linewidth=1.6, markersize=3.2, **style)
    offset = 0
    for number, campaign in enumerate(run.campaigns):
        if number:
            axes.axvline(offset, color=colour, linewidth=0.5, alpha=0.4)
        _draw_campaign(axes, campaign, offset, style)
        offset += campaign.records[-1].step


def _draw_campaign(axes: Axes, campaign: Campaign, offset: int, style: dict[str, Any]) -> None:
    curve, colour = campaign.curve, style["color"]
    if curve is None:
        return
    rate = curve.metric.kind == "pass_rate"
    unit = 100 if rate else 1
    y_E, half_E = unit * curve.values_E, _Z95 * unit * curve.se_E
    values = dict(zip(curve.steps, y_E, strict=True))
    x_E = [offset + step for step in curve.steps]
    low_E, high_E = y_E - half_E, y_E + half_E
    if rate:
        low_E, high_E = low_E.clip(0), high_E.clip(max=100)
    axes.fill_between(x_E, low_E, high_E, color=colour, alpha=0.18, linewidth=0)
    axes.plot(x_E, y_E, linewidth=1.6, markersize=3.2, **style)
    for record in campaign.records:
        action, to = record.decision.get("action"), record.decision.get("to_step")
        x, y = offset + record.step, values.get(record.step)
        if y is None or action not in ("roll_back", "stop"):
            continue
        sign = "v" if action == "roll_back" else "X"
        axes.plot([x], [y], marker=sign, color=colour, markersize=9, markeredgecolor=INK, linestyle="none", zorder=4)
        if to in values:  # the weights of that step come back
            axes.annotate(
                "", (offset + to, values[to]), (x, y), arrowprops={"arrowstyle": "->", "color": colour, "alpha": 0.7}
            )
    if campaign.kept_step in values:
        x = offset + campaign.kept_step
        y = values[campaign.kept_step] if campaign.kept is None else unit * campaign.kept
        axes.plot([x], [y], marker="*", color=colour, markersize=14, markeredgecolor=INK, linestyle="none", zorder=5)
    survivor = campaign.surviving
    onset = survivor.onset_step if survivor is not None and survivor.gap > limits_of(survivor)[1] else None
    if onset is not None:
        axes.axvline(offset + onset, color=colour, linestyle=":", linewidth=1.4)
        axes.annotate(
            "onset",
            (offset + onset, 0.98),
            xycoords=axes.get_xaxis_transform(),
            fontsize=8,
            color=colour,
            xytext=(3, 0),
            va="top",
            textcoords="offset points",
        )


def _placed(run: Run) -> Iterator[tuple[int, Record]]:
    """Every record with its place on the common axis, campaigns one after another."""
    offset = 0
    for campaign in run.campaigns:
        for record in campaign.records:
            yield offset + record.step, record
        offset += campaign.records[-1].step


def _save(figure: Figure, file: Any, kind: str) -> None:
    import matplotlib as mpl

    # fixed salt and no date: the same run gives the same bytes
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "sr-monitor"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph|Matplotlib currently")  # of letters that its font lacks
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(file, format=kind, dpi=160, metadata=metadata)
