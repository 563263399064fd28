"""The figures of the paper's study, drawn from its results and records."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sr_core.studies.records import Record
from sr_core.studies.spec import StudySpec
from sr_monitor.analysis.study import trajectories
from sr_monitor.report.figures import COLOURS, DASHES, INK, new_figure, new_panels, save_figure
from sr_monitor.report.study import Shown, plot_ends

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Chains = Mapping[str, Mapping[int, Record]]  # arm -> seed -> record
ALIGNED = ("naive", "grpo", "es", "average", "guard")  # the arms whose campaigns are drawn over each other
MECHANISM = {
    "entropy": "entropy (nats per token)",
    "unique_share": "distinct samples (share)",
    "length": "length (tokens)",
    "truncated": "truncated (share)",
    "train_reward": "training reward",
    "well_formed": "programs that parse",
}


def figures(
    spec: StudySpec,
    shown: Mapping[str, Shown],
    results: Mapping[str, Any],
    records: Mapping[str, Chains],
    folder: Path,
) -> list[str]:
    """Draw what there is data for as PNG into ``folder``; returns the names of the files."""
    drawn: dict[str, Figure] = {}
    for regime, found in results["regimes"].items():
        marked = [name for name in found["arms"] if name.startswith("guard")]
        drawn[f"arms-{regime}"] = plot_ends(found["arms"], shown, marked)
        if any(name in records[regime] for name in ALIGNED):
            drawn[f"campaigns-{regime}"], axes = new_figure(8.0, 4.2)
            _draw_campaigns(axes, records[regime], shown)
        if any(name in records[regime] for name in ("long_naive", "long_guard")):
            drawn[f"diagnostic-{regime}"], axes = new_figure(8.0, 4.2)
            _draw_long(axes, records[regime], shown)
        aligned = list(_falls(records[regime].get("naive", {})))
        if aligned:
            drawn[f"mechanism-{regime}"], panels = new_panels(12.5, 2.6, len(MECHANISM))
            _draw_mechanism(panels, aligned)
    if sum("naive" in found["arms"] for found in results["regimes"].values()) > 1:
        drawn["gap-by-rate"], axes = new_figure(6.0, 3.6)
        _draw_gaps(axes, spec, results)
    for name, figure in drawn.items():
        save_figure(figure, folder / f"{name}.png")
    return [f"{name}.png" for name in drawn]


def _draw_campaigns(axes: Axes, arms: Chains, shown: Mapping[str, Shown]) -> None:
    """Held-out pass@1 by step of a campaign, mean over campaigns and seeds."""
    aligned = [name for name in ALIGNED if arms.get(name)]
    for name, colour, dash in zip(aligned, COLOURS, DASHES, strict=False):
        by_step: dict[int, list[float]] = {}
        for record in arms[name].values():
            for curve in trajectories(record).values():
                for step, value in zip(curve.steps, curve.pass1_E, strict=True):
                    by_step.setdefault(step, []).append(float(value))
        steps = sorted(by_step)
        means = [100 * float(np.mean(by_step[step])) for step in steps]
        axes.plot(steps, means, color=colour, linestyle=dash, linewidth=1.8, label=shown[name].label)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("gradient steps of the campaign")
    axes.set_ylabel("held-out pass@1 (%), mean over campaigns")
    axes.legend(frameon=False, fontsize=9, labelcolor=INK)


def _draw_long(axes: Axes, arms: Chains, shown: Mapping[str, Shown]) -> None:
    """The diagnostic: one campaign of 200 steps."""
    for name, colour, dash in zip(("long_naive", "long_guard"), COLOURS, DASHES, strict=False):
        for record in arms.get(name, {}).values():
            for curve in trajectories(record).values():
                axes.plot(curve.steps, 100 * curve.pass1_E, color=colour, linestyle=dash, label=shown[name].label)
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


def _draw_gaps(axes: Axes, spec: StudySpec, results: Mapping[str, Any]) -> None:
    """How far campaigns fall from their peak, by learning rate, without and with the guard."""
    rate = {regime: spec.settings_of(regime, "naive")["optim"]["lr"] for regime in results["regimes"]}
    presets = dict.fromkeys(spec.regimes[regime].preset for regime in results["regimes"])
    for preset, marker in zip(presets, ("o", "s"), strict=False):
        for name, colour in (("naive", COLOURS[0]), ("guard", COLOURS[1])):
            points = sorted(
                (rate[regime], 100 * found["arms"][name]["peak"] - 100 * found["arms"][name]["handed_on"])
                for regime, found in results["regimes"].items()
                if spec.regimes[regime].preset == preset and name in found["arms"]
            )
            if points:
                at, gaps = zip(*points, strict=True)
                axes.plot(at, gaps, marker=marker, color=colour, label=f"{spec.label(name)}, {preset}")
    axes.set_xscale("log")
    rates = sorted(set(rate.values()))
    axes.set_xticks(rates, [f"{value:g}" for value in rates])
    axes.minorticks_off()
    axes.set_xlabel("learning rate")
    axes.set_ylabel("peak - kept policy (points)")
    axes.legend(frameon=False, fontsize=8, labelcolor=INK)
