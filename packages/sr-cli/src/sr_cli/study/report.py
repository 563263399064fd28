"""Results of a study: results.json, RESULTS.md and a figure for each regime."""

from __future__ import annotations

from typing import Any

from sr_cli.study.chains import Study
from sr_cli.study.spec import StudySpec
from sr_core.runs.atomic_io import write_json
from sr_monitor.analysis.study import judge_study
from sr_monitor.report.figures import save_figure
from sr_monitor.report.study import Shown, plot_ends, tables


def judged(study: Study) -> dict[str, Any]:
    """``results.json``, from all records that the study has."""
    return judge_study(study.by_arm(), study.spec.compare)


def shown_arms(spec: StudySpec) -> dict[str, Shown]:
    """How each arm is shown in tables and figures."""
    return {name: Shown(label=spec.label(name), decides=spec.decides(name)) for name in spec.arms}


def title_of(spec: StudySpec, regime: str) -> str:
    """The heading of a regime's tables."""
    config = spec.config_of(regime, next(iter(spec.arms)))
    return f"Regime `{regime}`: preset {spec.regimes[regime].preset}, learning rate {config.train.optim.lr:g}"


def write_results(study: Study) -> dict[str, Any]:
    """Write results, tables and figures of all the records that the study has; return the results."""
    results, shown, parts = judged(study), shown_arms(study.spec), []
    write_json(study.folder / "results.json", results)
    for regime, found in results["regimes"].items():
        parts.append(tables(title_of(study.spec, regime), found["arms"], shown, study.spec.compare))
        save_figure(plot_ends(found["arms"], shown), study.folder / f"arms-{regime}.png")
    parts += [f"![arms-{regime}](arms-{regime}.png)" for regime in results["regimes"]]
    (study.folder / "RESULTS.md").write_text("\n".join(parts) + "\n")
    return results
