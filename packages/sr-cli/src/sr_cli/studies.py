"""``sr study`` and the studies of the repository: spec, jobs and results put together."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sr_care.memory.plain import PlainMemories
from sr_cli.config import SECTIONS, RunConfig, from_mapping, over_preset
from sr_core.errors import ConfigError
from sr_core.runs.atomic_io import write_json
from sr_core.sections import read_toml
from sr_core.studies.jobs import Study
from sr_core.studies.spec import Settings, StudySpec
from sr_monitor.analysis.study import judge_study
from sr_monitor.report.figures import save_figure
from sr_monitor.report.study import Shown, plot_ends, tables


def make_spec(values: dict[str, Any], *, quick: bool = False) -> StudySpec:
    """A study of plain values. Raises ConfigError naming the key, its rule and the nearest valid key."""
    return StudySpec(values, SECTIONS, _check, quick=quick)


def read_spec(file: Path, *, quick: bool = False) -> StudySpec:
    """The study of a TOML file."""
    return make_spec(read_toml(file), quick=quick)


def open_study(spec: StudySpec, folder: Path) -> Study:
    """The study's folder, made if it is new."""
    return Study(spec, folder, [sys.executable, "-m", "sr_cli"], PlainMemories())


def config_of(spec: StudySpec, regime: str, arm: str) -> RunConfig:
    """An arm's configuration, before anything is copied from another arm."""
    return _check(spec.regimes[regime].preset, spec.before_copying(regime, arm))


def _check(preset: str, settings: Settings) -> RunConfig:
    config = from_mapping(over_preset(preset, settings))
    audited = config.tasks.path == "testbed" if config.tasks.audit is None else config.tasks.audit > 0
    if not (audited and config.train.evaluate.audit_samples):
        raise ConfigError(
            "a study compares arms on the audit set, and there is none: set tasks.audit (how many tasks are set aside "
            "for it) and evaluate.audit_samples above 0"
        )
    return config


def judged(study: Study) -> dict[str, Any]:
    """``results.json``, from all records that the study has."""
    return judge_study(study.by_arm(), study.spec.compare)


def shown_arms(spec: StudySpec) -> dict[str, Shown]:
    """How each arm is shown in tables and figures."""
    return {name: Shown(label=spec.label(name), decides=spec.decides(name)) for name in spec.arms}


def title_of(spec: StudySpec, regime: str) -> str:
    """The heading of a regime's tables."""
    config = config_of(spec, regime, next(iter(spec.arms)))
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
