"""One HTML file that tells what happened in some runs; needs no network and runs no script.

jinja2 and matplotlib are needed (extra ``report``) and loaded when a report is written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sr_monitor.analysis.margin import limits_of
from sr_monitor.analysis.noise import corrected_peak, null_of_curve
from sr_monitor.analysis.runs import Campaign, Run
from sr_monitor.analysis.statistics import bootstrap, wilson
from sr_monitor.analysis.trajectory import COLLAPSE_GAP
from sr_monitor.analysis.verdict import Verdict, judge
from sr_monitor.errors import MonitorError
from sr_monitor.logs.readers import runs_of
from sr_monitor.report.figures import COLOURS, INDICATORS, INK, plot_curves, plot_indicator, svg_text
from sr_monitor.report.glossary import GLOSSARY
from sr_monitor.report.terminal import percent, visible

MOST_TASKS_SHOWN = 4
MOST_CHARACTERS = 1600


def write_report(runs: Sequence[Path | str | Run], out: Path | str) -> None:
    """Write the report on ``runs``, or on those at the paths given, to ``out``."""
    text = render(runs_of(runs))
    try:
        Path(out).write_text(text, encoding="utf-8")
    except OSError as error:
        raise MonitorError(f"{out}: cannot be written, {error.strerror}; choose another place with --out") from error


def render(runs: Sequence[Run]) -> str:
    """The report as HTML."""
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MonitorError("report: jinja2 is needed; pip install jinja2") from error
    if not runs:
        raise MonitorError("report: at least one run is needed, got none")
    environment = Environment(
        loader=PackageLoader("sr_monitor.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters |= {"percent": percent, "number": _number}
    verdicts = [judge(run) for run in runs]
    figures = {name: plot_indicator(runs, name) for name in INDICATORS}
    page = environment.get_template("report.html.j2").render(
        title=", ".join(run.name for run in runs[:4]) + (", …" if len(runs) > 4 else ""),
        sentences=summarize(runs, verdicts),
        curves=_inline(svg_text(plot_curves(runs, width=9.5, height=4.6)), "curves"),
        measured=_measured(runs),
        indicators=[
            (name, _inline(svg_text(figure), f"i-{name}")) for name, figure in figures.items() if figure is not None
        ],
        rows=[_row(run, campaign) for run in runs for campaign in run.campaigns],
        arms=_arms(runs),
        decisions=[d for run in runs for d in _decisions(run)],
        samples=[s for run in runs if (s := _samples(run)) is not None],
        verdicts=list(zip(runs, verdicts, strict=True)),
        colours=COLOURS,
        glossary=GLOSSARY,
    )
    return visible(page)


def _measured(runs: Sequence[Run]) -> str:
    labels = list(dict.fromkeys(run.metric.label for run in runs if run.metric is not None))
    if len(labels) != 1:
        return "Held-out metrics" if labels else "Held-out results"
    return labels[0][0].upper() + labels[0][1:] if labels[0].startswith(("held", "the ")) else labels[0]


def summarize(runs: Sequence[Run], verdicts: Sequence[Verdict]) -> list[str]:
    """What happened, in a few sentences; an average over runs only where they are too many to tell each."""
    if len(runs) == 1:
        return _one(runs[0], verdicts[0])
    if len(runs) <= 4:
        return [*map(_story, runs), _bottom_line(runs)]
    collapsed = sum(v.verdict == "collapsed" for v in verdicts)
    rates = [run for run in runs if run.metric is None or run.metric.kind == "pass_rate"]
    ends = [value for run in rates if (value := _kept(run)[0]) is not None]
    spread = bootstrap(ends) if ends else None
    return [
        f"{len(runs)} runs with {sum(len(run.campaigns) for run in runs)} campaigns were read; {collapsed} of the "
        "runs ended collapsed.",
        "No run says which policy it kept."
        if spread is None
        else f"The kept policies pass {percent(spread.estimate)} on average, "
        f"95% interval {percent(spread.low)} to {percent(spread.high)} over runs.",
        _bottom_line(runs),
    ]


def _one(run: Run, verdict: Verdict) -> list[str]:
    value, source = _kept(run)
    rolled = sum(r.decision.get("action") == "roll_back" and r.decision.get("rule") != "kept" for r in run.records)
    acted = f"The guard rolled back {rolled} time(s)" if rolled else "Nothing was rolled back"
    shown = "" if value is None or run.metric is None else run.metric.show(value)
    verb = "passes" if run.metric is not None and run.metric.kind == "pass_rate" else "has"
    kept = f"the kept policy {verb} {shown} ({source})." if shown else "the kept policy is not known."
    return [_story(run), verdict.reason, f"{acted}; {kept}"]


def _story(run: Run) -> str:
    curves = {c.number: c.curve for c in run.campaigns if c.curve is not None}
    if not curves or run.metric is None:
        return f"“{run.name}” was never evaluated on held-out tasks."
    metric = run.metric
    number = max(curves, key=lambda number: metric.sign * curves[number].peak)
    first, best, last = curves[min(curves)], curves[number], curves[max(curves)]
    where = f"step {best.peak_step}" if len(curves) == 1 else f"campaign {number}, step {best.peak_step}"
    ended_best = metric.sign * last.end >= metric.sign * best.peak
    course = "and ended there" if ended_best else f"and ended at {metric.show(last.end)} (step {last.steps[-1]})"
    optim = (run.config.get("config") or {}).get("optim") or {}
    measured = metric.label + (" (of the mean of its iterates)" if optim.get("average") else "")
    if best is first and best.peak_step == best.steps[0]:
        best_of = "lowest" if metric.kind == "loss" else "highest"
        rise = f"“{run.name}” started at its {best_of} {measured}, {metric.show(best.peak)},"
    else:
        begin = f"“{run.name}” started at {metric.show(first.start)} {measured}"
        rise = f"{begin}, reached {metric.show(best.peak)} ({where})"
    return f"{rise} {course}."


def _bottom_line(runs: Sequence[Run]) -> str:
    known = [(run, *_kept(run)) for run in runs]
    said = [f"“{r.name}” {r.metric.show(value)}" for r, value, _ in known if value is not None and r.metric is not None]
    if not said:
        return "Which policies the runs kept is not known."
    sources = {source for _, value, source in known if value is not None}
    return f"Kept: {', '.join(said[:6])}{', …' if len(said) > 6 else ''} ({' / '.join(sorted(sources))})."


def _kept(run: Run) -> tuple[float | None, str]:
    """The held-out value of the policy that was kept, and where it was measured."""
    audit = run.summary.get("audit")
    if isinstance(audit, Mapping) and isinstance(audit.get("kept"), int | float):
        return float(audit["kept"]), "on the audit set, which is never used for decisions"
    if isinstance(run.summary.get("kept"), int | float):
        return float(run.summary["kept"]), "on the held-out set"
    curve = run.campaigns[-1].surviving if run.campaigns and run.metric is not None else None
    return (None, "") if curve is None else (curve.end, "last held-out evaluation")


def _row(run: Run, campaign: Campaign) -> dict[str, Any]:
    curve = campaign.curve if run.metric is not None else None
    told = run.summary_of(campaign.number)
    row: dict[str, Any] = {"run": run.name, "campaign": campaign.number, "audit": told.get("audit") or {}}
    row |= {"kept": told.get("kept"), "kept_step": told.get("kept_step"), "kept_iterate": told.get("kept_iterate")}
    row |= {"steps": campaign.records[-1].step}
    if curve is None:
        return row | {"curve": None, "p_value": None, "corrected": None}
    known = bool(np.isfinite(curve.se_E).all())
    null = null_of_curve(curve) if known else None
    return row | {
        "curve": curve,
        "show": curve.metric.show,
        "difference": curve.metric.show(curve.gap),
        "collapsed": curve.gap > limits_of(curve)[1],
        "p_value": None if null is None else null.p_value(curve.gap),
        "corrected": corrected_peak(curve.trajectory) if known and curve.trajectory is not None else None,
    }


def _arms(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Runs that differ by no more than their seed, with the interval of what they kept; empty if none repeat.

    A run that does not say its configuration is an arm of its own.
    """
    groups: dict[str, list[Run]] = {}
    for number, run in enumerate(runs):
        settings = _settings(run)
        groups.setdefault(json.dumps(settings, sort_keys=True) if settings else f"run {number}", []).append(run)
    if all(len(group) < 2 for group in groups.values()):
        return []
    arms = []
    for name, group in zip(_arm_names([group[0] for group in groups.values()]), groups.values(), strict=True):
        values = [value for run in group if (value := _kept(run)[0]) is not None]
        curves = [c.surviving for run in group for c in run.campaigns]
        known = [curve for curve in curves if curve is not None]
        arms.append(
            {
                "name": name,
                "runs": len(group),
                "kept": bootstrap(values) if values else None,
                "collapsed": wilson(sum(c.gap > COLLAPSE_GAP for c in known), len(known)) if known else None,
            }
        )
    return arms


def _arm_names(firsts: Sequence[Run]) -> list[str]:
    """A name for every arm, from its first run: what was trained, and the settings that differ from its like."""
    settings = [_settings(run) for run in firsts]
    names = [_trained(one) if one else run.name for one, run in zip(settings, firsts, strict=True)]
    full = []
    for name, one, run in zip(names, settings, firsts, strict=True):
        alike = [other for other, named in zip(settings, names, strict=True) if named == name]
        keys = sorted(key for key in set().union(*alike) if len({other.get(key) for other in alike}) > 1)
        told = [f"{key} {one.get(key, 'unset')}" for key in keys]
        where = [str(run.path)] if len(alike) > 1 and not one else []
        full.append(", ".join([name, *told, *where]))
    return full


def _trained(settings: Mapping[str, str]) -> str:
    algorithm, policy = (settings.get(key, "?") for key in ("algorithm.name", "policy.path"))
    keys = ("guard.name", "planner.name", "controller.name")  # the last one is of runs before 0.2
    deciding = [settings[key] for key in keys if settings.get(key, "none") != "none"]
    return f"{' + '.join([algorithm, *deciding])} on {Path(policy).name}"


def _settings(run: Run) -> dict[str, str]:
    """The run's configuration without its seed, as dotted keys and their values as text; empty if it says none."""
    config = run.config.get("config")
    return dict(_flat(config, "")) if isinstance(config, Mapping) else {}


def _flat(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if not isinstance(value, Mapping):
        yield key, value if isinstance(value, str) and value else json.dumps(value)
        return
    for name, inner in value.items():
        if name != "seed":
            yield from _flat(inner, f"{key}.{name}" if key else name)


def _decisions(run: Run) -> list[dict[str, Any]]:
    return [
        {
            "rule": "",
            "value": None,
            "limit": None,
            **r.decision,
            "run": run.name,
            "campaign": r.campaign,
            "step": r.step,
        }
        for r in run.records
        if r.decision.get("action") in ("roll_back", "stop")
    ]


def _samples(run: Run) -> dict[str, Any] | None:
    """Completions of a few tasks at start, peak and end of the run's most telling campaign, side by side."""
    campaigns = [c for c in run.campaigns if c.curve is not None]
    if not run.samples or not campaigns:
        return None
    campaign = max(campaigns, key=lambda c: c.curve.gap if c.curve else 0.0)
    rows = [s for s in run.samples if s.get("campaign", 0) == campaign.number and "step" in s and "task_id" in s]
    steps = sorted({s["step"] for s in rows})
    curve = campaign.curve
    if not steps or curve is None:
        return None
    wanted = {"start": curve.steps[0], "peak": curve.peak_step, "end": curve.steps[-1]}
    places = {name: min(steps, key=lambda s: (abs(s - step), s)) for name, step in wanted.items()}
    by_place = {(s["step"], s["task_id"]): s for s in reversed(rows)}
    tasks: list[tuple[int, int, str, dict[str, Any]]] = []
    for task_id in dict.fromkeys(s["task_id"] for s in rows):
        shown = {name: by_place.get((step, task_id)) for name, step in places.items()}
        if all(shown.values()):
            outcomes = {s.get("outcome") for s in shown.values() if s}
            tasks.append((-len(outcomes), len(tasks), task_id, shown))
    chosen = [
        {
            "task_id": task_id,
            "prompt": _shorten(next(iter(shown.values()))),
            "shown": [(name, _shorten(s, "completion"), (s or {}).get("outcome", "")) for name, s in shown.items()],
        }
        for _, _, task_id, shown in sorted(tasks, key=lambda t: t[:2])[:MOST_TASKS_SHOWN]
    ]
    return {"run": run.name, "campaign": campaign.number, "places": places, "tasks": chosen} if chosen else None


def _shorten(sample: Mapping[str, Any] | None, key: str = "prompt") -> str:
    """Text fit for a page: long ones are cut."""
    text = str((sample or {}).get(key, ""))
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + " […]"


def _inline(svg: str, prefix: str) -> str:
    """An SVG that follows the page: its colours become the page's, its ids are made unique."""
    for number, colour in enumerate(COLOURS):
        svg = svg.replace(colour, f"var(--c{number})")
    svg = svg.replace(INK, "currentColor")
    svg = re.sub(r'(\bid="|url\(#|href="#)', lambda match: f"{match[1]}{prefix}-", svg)
    head, rest = svg.split(">", 1)
    return re.sub(r' (width|height)="[^"]*"', "", head) + ' width="100%">' + rest


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, int | float) else "–"
