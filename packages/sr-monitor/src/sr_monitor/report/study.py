"""A study written down: tables in Markdown, and a figure of where the chains of every arm end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sr_monitor.report.figures import COLOURS, INK, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Results = Mapping[str, Mapping[str, Any]]  # arm -> what ``analysis.study.judge_study`` says of it


@dataclass(frozen=True, kw_only=True)
class Shown:
    """How an arm is shown. ``decides``: its evaluations decide something, hence count as its cost."""

    label: str
    decides: bool


def tables(
    title: str,
    arms: Results,
    shown: Mapping[str, Shown],
    compare: Sequence[str],
    more: tuple[str, Mapping[str, str]] | None = None,
) -> str:
    """The tables of one regime, best arm first. ``more``: the heading and the cells, by arm, of a further column."""
    parts = (_ends(arms, shown, compare, more), _campaigns(arms, shown), _costs(arms, shown))
    return "\n".join([f"## {title}\n", *("\n".join(part) + "\n" for part in parts)])


def _ends(
    arms: Results,
    shown: Mapping[str, Shown],
    compare: Sequence[str],
    more: tuple[str, Mapping[str, str]] | None,
) -> Iterator[str]:
    heading, notes = more or ("", {})
    yield "End of chain: audited pass@1 in percent, with 95% intervals over seeds; differences are paired by seed."
    yield "The hindsight oracle is the chain's best checkpoint, chosen on one half of the audit samples and measured on"
    yield "the other; with a * it is the highest of all measurements, which is biased upward (records without halves)\n"
    over = [f"over {shown[other].label}" for other in compare]
    columns = ["arm", "end", *over, "seeds", "of its hindsight oracle", "worst campaign", *([heading] if more else [])]
    yield from _head(columns)
    for name, arm in best_first(arms):
        interval = f" [{points(arm['ci'][0])}, {points(arm['ci'][1])}]" if len(arm["per_seed"]) > 1 else ""
        cells = [
            shown[name].label,
            points(arm["end"]) + interval,
            *(difference(arm.get(f"over_{other}")) if other != name else "" for other in compare),
            str(len(arm["per_seed"])),
            f"{points(arm['share_of_hindsight'])} of {points(arm['hindsight'])}{'*' * arm['flattered_oracle']}",
            f"{100 * arm['worst_campaign']:+.1f}",
            *([notes.get(name, "")] if more else []),
        ]
        yield f"| {' | '.join(cells)} |"


def _campaigns(arms: Results, shown: Mapping[str, Shown]) -> Iterator[str]:
    yield "Campaigns: means; gap = peak - end; collapsed: a gap above 20 points. Onset (step) and the largest single"
    yield "step of the fall are medians of the curves that collapsed; the last two columns are the noise null's\n"
    columns = ["arm", "peak", "end", "gap", "collapsed", "trace oracle", "onset", "one-step share", "noise's gap"]
    yield from _head([*columns, "real falls"])
    for name, arm in best_first(arms):
        onset = "–" if arm["onset"] is None else f"{arm['onset']:.0f}"
        cells = [
            shown[name].label,
            *(points(arm[key]) for key in ("peak", "campaign_end", "gap", "collapse_rate", "trace_oracle")),
            onset,
            *(points(arm[key]) for key in ("one_step_share", "null_gap", "real_falls")),
        ]
        yield f"| {' | '.join(cells)} |"


def _costs(arms: Results, shown: Mapping[str, Shown]) -> Iterator[str]:
    yield "Cost of a chain: gradient steps, training samples, samples of evaluations that decide something (those drawn"
    yield "for these tables only are not counted), seconds of training and of evaluation on one thread\n"
    columns = ["arm", "steps", "training samples", "evaluation samples", "training s", "evaluation s", "rollbacks"]
    yield from _head([*columns, "per 100"])
    for name, arm in best_first(arms):
        decides = shown[name].decides
        gain = "–" if arm["per_100_steps"] is None else f"{100 * arm['per_100_steps']:+.1f}"
        cells = [
            shown[name].label,
            f"{arm['steps']:.0f}",
            f"{arm['training_samples']:,.0f}",
            f"{arm['evaluation_samples']:,.0f}" if decides else "0",
            f"{arm['seconds']:.0f}",
            f"{arm['evaluation_seconds']:.0f}" if decides else "0",
            f"{arm['rollbacks']:.1f}",
            gain,
        ]
        yield f"| {' | '.join(cells)} |"


def _head(columns: Sequence[str]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"


def points(value: float | None) -> str:
    """A share in points (percent, without the sign) with one digit, a dash where there is none."""
    return "–" if value is None else f"{100 * value:.1f}"


def difference(interval: Sequence[float] | None) -> str:
    """A difference in points with its interval; ``interval`` is estimate, low, high and the number of pairs."""
    if interval is None:
        return "–"
    if interval[3] == 1:  # one seed has no interval
        return f"{100 * interval[0]:+.1f}"
    return f"{100 * interval[0]:+.1f} [{100 * interval[1]:+.1f}, {100 * interval[2]:+.1f}]"


def best_first(arms: Results) -> list[tuple[str, Mapping[str, Any]]]:
    """The arms by where their chains end, highest first."""
    return sorted(arms.items(), key=lambda item: -item[1]["end"])


def plot_ends(arms: Results, shown: Mapping[str, Shown], marked: Sequence[str] = ()) -> Figure:
    """One row per arm: mean and interval, a dot per seed, the hindsight oracle as a tick; ``marked`` arms in colour."""
    figure, axes = new_figure(8.0, 1.2 + 0.3 * len(arms))
    ranked = best_first(arms)[::-1]
    for y, (name, arm) in enumerate(ranked):
        colour = COLOURS[1] if name in marked else COLOURS[0]
        axes.plot([100 * bound for bound in arm["ci"]], [y, y], color=colour, linewidth=2.4)
        axes.plot([100 * arm["end"]], [y], marker="o", color=colour, markersize=6)
        values = [100 * value for value in arm["per_seed"].values()]
        axes.plot(values, [y + 0.22] * len(values), linestyle="none", marker="o", markersize=2.6, color=INK, alpha=0.5)
        axes.plot([100 * arm["hindsight"]], [y], marker="|", markersize=12, color=INK)
    axes.set_yticks(range(len(ranked)), [shown[name].label for name, _ in ranked])
    axes.set_xlim(left=0)
    axes.set_xlabel("audited pass@1 at the end of the chain (%)   | best checkpoint of the chain")
    return figure
