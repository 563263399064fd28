"""The study written down: tables in Markdown beside the paper's numbers, and figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sr_cli.study.arms import ARMS, MAIN_REGIMES, REGIMES
from sr_cli.study.records import Record
from sr_cli.study.results import Records, trajectories
from sr_monitor.report.figures import COLOURS, DASHES, INK, new_figure, new_panels, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# arXiv 2606.21090, end of chain, percent: 3B (fragile), 7B (rich)
PAPER: Mapping[str, tuple[str, str]] = {
    "naive": ("4.9 [2.1, 9.5]", "11.8 [5.2, 18.3]"),
    "care_v2": ("9.5 [6.3, 12.7]", "13.8 [2.8, 27.3]"),
    "es": ("–", "22.2 [14.1, 28.0]"),
    "grpo": ("6.8", "20.7 [15.7, 25.1]"),
    "grpo_care": ("4.7", "20.4"),
    "grpo_es": ("–", "17.0 [0.0, 28.1]"),
}
Arms = Mapping[str, Mapping[str, Any]]
ALIGNED = ("naive", "grpo", "es", "average", "guard")  # the arms whose campaigns are drawn over each other
MECHANISM = {
    "entropy": "entropy (nats per token)",
    "unique_share": "distinct samples (share)",
    "length": "length (tokens)",
    "truncated": "truncated (share)",
    "train_reward": "training reward",
    "well_formed": "programs that parse",
}


def tables(regime: str, arms: Arms) -> str:
    """The tables of one regime, in Markdown; ``arms`` as in ``results.json``."""
    where = REGIMES[regime]
    title = f"## Regime `{regime}`: preset {where.preset}, learning rate {where.lr:g}\n"
    return "\n".join(
        [title, *("\n".join(part) + "\n" for part in (_ends(regime, arms), _campaigns(arms), _costs(arms)))]
    )


def _ends(regime: str, arms: Arms) -> Iterator[str]:
    yield "End of chain: audited pass@1 in percent, with 95% intervals over seeds; differences are paired by seed."
    yield "The hindsight oracle is the chain's best checkpoint, chosen on one half of the audit samples and measured on"
    yield "the other; with a * it is the highest of all measurements, which flatters it (records that have no halves)\n"
    yield "| arm | end | over naive | over ES | over GRPO | seeds | of its hindsight oracle | worst campaign | paper |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for name, arm in _best_first(arms):
        paper = PAPER.get(name, ("", ""))[regime.startswith("rich")] if regime in MAIN_REGIMES else ""
        cells = [
            ARMS[name].label,
            percent(arm["end"])
            + (f" [{percent(arm['ci'][0])}, {percent(arm['ci'][1])}]" if len(arm["per_seed"]) > 1 else ""),
            *(difference(arm.get(f"over_{other}")) if other != name else "" for other in ("naive", "es", "grpo")),
            str(len(arm["per_seed"])),
            f"{percent(arm['share_of_hindsight'])} of {percent(arm['hindsight'])}{'*' * arm['flattered_oracle']}",
            f"{100 * arm['worst_campaign']:+.1f}",
            paper,
        ]
        yield f"| {' | '.join(cells)} |"


def _campaigns(arms: Arms) -> Iterator[str]:
    yield "Campaigns: means; gap = peak - end; collapsed: a gap above 20 points. Onset (step) and the largest single"
    yield "step of the fall are medians of the curves that collapsed; the last two columns are the noise null's\n"
    yield "| arm | peak | end | gap | collapsed | trace oracle | onset | one-step share | noise's gap | real falls |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for name, arm in _best_first(arms):
        onset = "–" if arm["onset"] is None else f"{arm['onset']:.0f}"
        cells = [
            ARMS[name].label,
            *(percent(arm[key]) for key in ("peak", "campaign_end", "gap", "collapse_rate", "trace_oracle")),
            onset,
            *(percent(arm[key]) for key in ("one_step_share", "null_gap", "real_falls")),
        ]
        yield f"| {' | '.join(cells)} |"


def _costs(arms: Arms) -> Iterator[str]:
    yield "Cost of a chain: gradient steps, samples to train on, samples to decide by (what was drawn for these tables"
    yield "only is not counted), seconds of training and of evaluation on one thread\n"
    yield "| arm | steps | training samples | evaluation samples | training s | evaluation s | roll-backs | per 100 |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, arm in _best_first(arms):
        decides = ARMS[name].decides
        gain = "–" if arm["per_100_steps"] is None else f"{100 * arm['per_100_steps']:+.1f}"
        cells = [
            ARMS[name].label,
            f"{arm['steps']:.0f}",
            f"{arm['training_samples']:,.0f}",
            f"{arm['evaluation_samples']:,.0f}" if decides else "0",
            f"{arm['seconds']:.0f}",
            f"{arm['evaluation_seconds']:.0f}" if decides else "0",
            f"{arm['rollbacks']:.1f}",
            gain,
        ]
        yield f"| {' | '.join(cells)} |"


def percent(value: float | None) -> str:
    """A share in percent with one digit, a dash where there is none."""
    return "–" if value is None else f"{100 * value:.1f}"


def difference(interval: Sequence[float] | None) -> str:
    """A difference in points with its interval; ``interval`` is estimate, low, high and the number of pairs."""
    if interval is None:
        return "–"
    if interval[3] == 1:  # one seed has no interval
        return f"{100 * interval[0]:+.1f}"
    return f"{100 * interval[0]:+.1f} [{100 * interval[1]:+.1f}, {100 * interval[2]:+.1f}]"


def _best_first(arms: Arms) -> list[tuple[str, Mapping[str, Any]]]:
    return sorted(arms.items(), key=lambda item: -item[1]["end"])


def figures(results: Mapping[str, Any], records: Records, folder: Path) -> list[str]:
    """Draw what there is data for as PNG into ``folder``; returns the names of the files."""
    drawn: dict[str, Figure] = {}
    for regime, found in results["regimes"].items():
        drawn[f"arms-{regime}"], axes = new_figure(8.0, 1.2 + 0.3 * len(found["arms"]))
        _draw_ends(axes, found["arms"])
        if any(name in records[regime] for name in ALIGNED):
            drawn[f"campaigns-{regime}"], axes = new_figure(8.0, 4.2)
            _draw_campaigns(axes, records[regime])
        if any(name in records[regime] for name in ("long_naive", "long_guard")):
            drawn[f"diagnostic-{regime}"], axes = new_figure(8.0, 4.2)
            _draw_long(axes, records[regime])
        aligned = list(_falls(records[regime].get("naive", {})))
        if aligned:
            drawn[f"mechanism-{regime}"], panels = new_panels(12.5, 2.6, len(MECHANISM))
            _draw_mechanism(panels, aligned)
    if sum("naive" in found["arms"] for found in results["regimes"].values()) > 1:
        drawn["gap-by-rate"], axes = new_figure(6.0, 3.6)
        _draw_gaps(axes, results)
    for name, figure in drawn.items():
        save_figure(figure, folder / f"{name}.png")
    return [f"{name}.png" for name in drawn]


def _draw_ends(axes: Axes, arms: Arms) -> None:
    """One line per arm: mean and interval, a dot per seed, the hindsight oracle as a tick."""
    ranked = _best_first(arms)[::-1]
    for y, (name, arm) in enumerate(ranked):
        colour = COLOURS[1] if name.startswith("guard") else COLOURS[0]
        axes.plot([100 * bound for bound in arm["ci"]], [y, y], color=colour, linewidth=2.4)
        axes.plot([100 * arm["end"]], [y], marker="o", color=colour, markersize=6)
        values = [100 * value for value in arm["per_seed"].values()]
        axes.plot(values, [y + 0.22] * len(values), linestyle="none", marker="o", markersize=2.6, color=INK, alpha=0.5)
        axes.plot([100 * arm["hindsight"]], [y], marker="|", markersize=12, color=INK)
    axes.set_yticks(range(len(ranked)), [ARMS[name].label for name, _ in ranked])
    axes.set_xlim(left=0)
    axes.set_xlabel("audited pass@1 at the end of the chain (%)   | best checkpoint of the chain")


def _draw_campaigns(axes: Axes, arms: Mapping[str, Mapping[int, Record]]) -> None:
    """Held-out pass@1 by step of a campaign, mean over campaigns and seeds."""
    shown = [name for name in ALIGNED if arms.get(name)]
    for name, colour, dash in zip(shown, COLOURS, DASHES, strict=False):
        by_step: dict[int, list[float]] = {}
        for record in arms[name].values():
            for curve in trajectories(record).values():
                for step, value in zip(curve.steps, curve.pass1_E, strict=True):
                    by_step.setdefault(step, []).append(float(value))
        steps = sorted(by_step)
        means = [100 * float(np.mean(by_step[step])) for step in steps]
        axes.plot(steps, means, color=colour, linestyle=dash, linewidth=1.8, label=ARMS[name].label)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("gradient steps of the campaign")
    axes.set_ylabel("held-out pass@1 (%), mean over campaigns")
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)


def _draw_long(axes: Axes, arms: Mapping[str, Mapping[int, Record]]) -> None:
    """The diagnostic: one campaign of 200 steps."""
    for name, colour, dash in zip(("long_naive", "long_guard"), COLOURS, DASHES, strict=False):
        for record in arms.get(name, {}).values():
            for curve in trajectories(record).values():
                axes.plot(curve.steps, 100 * curve.pass1_E, color=colour, linestyle=dash, label=ARMS[name].label)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("gradient steps")
    axes.set_ylabel("held-out pass@1 (%)")
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)


def _falls(chains: Mapping[int, Record]) -> Iterator[dict[str, dict[int, float]]]:
    """Of each campaign that collapsed, its signals by steps from the onset."""
    for record in chains.values():
        for number, curve in trajectories(record).items():
            if curve.onset is None:
                continue
            places = [i for i, campaign in enumerate(record["campaign"]) if campaign == number]
            tasks, counts = (
                record["config"]["tasks"]["heldout"],
                zip(record["well_formed"], record["samples"], strict=True),
            )
            shares = [None if count is None else count / (tasks * samples) for count, samples in counts]
            signals = {**record["signals"], "well_formed": shares}
            yield {
                name: {
                    record["step"][i] - curve.onset: signals[name][i] for i in places if signals[name][i] is not None
                }
                for name in MECHANISM
            }


def _draw_mechanism(panels: Sequence[Axes], falls: Sequence[Mapping[str, Mapping[int, float]]]) -> None:
    """What the samples look like around the onset: means over the campaigns that collapsed, one curve a signal."""
    for axes, (name, label) in zip(panels, MECHANISM.items(), strict=True):
        by_step: dict[int, list[float]] = {}
        for fall in falls:
            for step, value in fall[name].items():
                by_step.setdefault(step, []).append(value)
        steps = [step for step in sorted(by_step) if 2 * len(by_step[step]) >= len(falls)]
        axes.plot(steps, [float(np.mean(by_step[step])) for step in steps], color=COLOURS[0], linewidth=1.8)
        axes.axvline(0, color=COLOURS[1], linestyle=":", linewidth=1.4)
        axes.set_title(label, loc="left", fontsize=9, color=INK)
        axes.set_xlabel("steps from the onset", fontsize=8)


def _draw_gaps(axes: Axes, results: Mapping[str, Any]) -> None:
    """How far campaigns fall from their peak, by learning rate, without and with the guard."""
    presets = dict.fromkeys(REGIMES[regime].preset for regime in results["regimes"])
    for preset, marker in zip(presets, ("o", "s"), strict=False):
        for name, colour in (("naive", COLOURS[0]), ("guard", COLOURS[1])):
            points = sorted(
                (REGIMES[regime].lr, 100 * found["arms"][name]["peak"] - 100 * found["arms"][name]["handed_on"])
                for regime, found in results["regimes"].items()
                if REGIMES[regime].preset == preset and name in found["arms"]
            )
            if points:
                at, gaps = zip(*points, strict=True)
                axes.plot(at, gaps, marker=marker, color=colour, label=f"{ARMS[name].label}, {preset}")
    axes.set_xscale("log")
    rates = sorted({REGIMES[regime].lr for regime in results["regimes"]})
    axes.set_xticks(rates, [f"{rate:g}" for rate in rates])
    axes.minorticks_off()
    axes.set_xlabel("learning rate")
    axes.set_ylabel("peak - policy handed on (points)")
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)
