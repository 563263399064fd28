"""The configuration of a run: one frozen dataclass per TOML section, from preset, file and command line.

Later ones win: defaults, preset, file, ``--set``. The sections that training needs are ``sr_core.config``'s.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sr_core.config import (
    AlgorithmConfig,
    CampaignConfig,
    EvaluateConfig,
    OptimConfig,
    PenaltyConfig,
    PolicyConfig,
    SamplingConfig,
    TrainConfig,
)
from sr_core.errors import ConfigError, RunError
from sr_core.runs.run_dir import read_run
from sr_core.sections import build, nearest, require

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True, kw_only=True)
class TasksConfig:
    """Which tasks: the embedded ``testbed`` or a task file. ``train`` and ``heldout`` are drawn per campaign.

    ``draw``: a fresh draw for every campaign, or the same tasks in all. ``audit``: how many tasks the audit set has;
    left out, it is the whole audit set of the testbed, and none of a file. ``ood``: how many tasks of families outside
    all of these ``care`` measures every policy on that is handed on (``evaluate.samples`` each); a file has none.
    """

    path: str = "testbed"
    train: int = 50
    heldout: int = 30
    draw: Literal["fresh", "same"] = "fresh"
    audit: int | None = None
    ood: int = 30

    def __post_init__(self) -> None:
        require(self.train >= 1, "tasks.train", "must be at least 1", self.train)
        require(self.heldout >= 1, "tasks.heldout", "must be at least 1", self.heldout)
        require(self.audit is None or self.audit >= 0, "tasks.audit", "must not be negative", self.audit)
        require(self.ood >= 0, "tasks.ood", "must not be negative", self.ood)


@dataclass(frozen=True, kw_only=True)
class ControllerConfig:
    """Who controls the run. ``es`` reads ``mode`` and ``patience``; ``care`` reads ``version`` and ``memory``;
    ``schedule`` reads ``budgets``, steps per campaign (the last one for all that follow); ``guard`` reads
    ``false_alarm``, ``margin``, ``max_rollbacks``, ``lr_factor``, ``evaluation``, ``share``, ``hear_reward`` and, with
    ``optim.average``, ``last_iterate`` (their meaning and defaults are ``sr_monitor.CollapseGuard``'s, but that
    evaluations keep to a budget and the last iterate is a candidate here).
    """

    name: Literal["none", "es", "care", "guard", "schedule"] = "none"
    mode: Literal["next_budget", "patience"] = "next_budget"
    patience: int = 3
    version: Literal["v1", "v2", "v3", "memory_only", "gate_only", "no_revision"] = "v2"
    memory: str = ""
    budgets: list[int] = field(default_factory=list)
    false_alarm: float = 0.05
    margin: float = 0.10
    max_rollbacks: int = 3
    lr_factor: float = 0.5
    evaluation: Literal["full", "budget"] = "budget"
    share: float = 0.25
    hear_reward: bool = False
    last_iterate: bool = True

    def __post_init__(self) -> None:
        good = all(budget >= 0 for budget in self.budgets) and (bool(self.budgets) or self.name != "schedule")
        require(good, "controller.budgets", "must list steps per campaign, none negative, for 'schedule'", self.budgets)


@dataclass(frozen=True, kw_only=True)
class SandboxConfig:
    """Where programs run. ``workers`` (of each process) 0 takes one per core; ``require_isolation`` fails where it does
    not stand.
    """

    workers: int = 0
    timeout_s: float = 2.0
    memory_mb: int = 256
    isolation: Literal["auto", "full", "landlock", "limits"] = "auto"
    require_isolation: Literal["", "full", "landlock", "limits"] = ""

    def __post_init__(self) -> None:
        require(self.workers >= 0, "sandbox.workers", "must not be negative", self.workers)
        require(self.timeout_s > 0, "sandbox.timeout_s", "must be above 0", self.timeout_s)
        require(self.memory_mb >= 64, "sandbox.memory_mb", "must be at least 64", self.memory_mb)


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Where else rows go, through accelerate; the tracker's package must be installed."""

    name: Literal["none", "tensorboard", "wandb", "trackio", "mlflow"] = "none"
    project: str = "self-regress"


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A whole run."""

    policy: PolicyConfig = field(default_factory=PolicyConfig)
    tasks: TasksConfig = field(default_factory=TasksConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    algorithm: AlgorithmConfig = field(default_factory=AlgorithmConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    penalty: PenaltyConfig = field(default_factory=PenaltyConfig)
    campaign: CampaignConfig = field(default_factory=CampaignConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    controller: ControllerConfig = field(default_factory=ControllerConfig)
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def __post_init__(self) -> None:
        self.training(0)  # its rules across sections, before anything is made

    def training(self, seed: int) -> TrainConfig:
        """The part that sr_core reads."""
        names = [f.name for f in dataclasses.fields(TrainConfig) if f.name != "seed"]
        return TrainConfig(**{name: getattr(self, name) for name in names}, seed=seed)

    def plain(self) -> dict[str, dict[str, Any]]:
        """As plain values, for ``run.json``; what is not set is left out."""
        sections: dict[str, dict[str, Any]] = dataclasses.asdict(self)
        return {
            name: {key: value for key, value in section.items() if value is not None}
            for name, section in sections.items()
        }


class Described(NamedTuple):
    """A run's configuration, its seed and the number of threads it was started with."""

    config: RunConfig
    seed: int
    threads: int


def from_mapping(sections: Mapping[str, Any]) -> RunConfig:
    """Validate plain nested values. Raises ConfigError naming the key, its rule, and the nearest valid key."""
    types = {f.name: f.default_factory for f in dataclasses.fields(RunConfig)}
    made: dict[str, Any] = {}
    for name, values in sections.items():
        if name not in types:
            raise ConfigError(f"unknown section [{name}]: {nearest(name, types)}")
        if not isinstance(values, Mapping):
            raise ConfigError(f"[{name}] must be a section of keys, got {values!r}")
        made[name] = build(types[name], values, name)  # type: ignore[arg-type]
    config = RunConfig(**made)
    if config.optim.average is None:
        optim = dataclasses.replace(config.optim, average=config.controller.name == "guard")
        config = dataclasses.replace(config, optim=optim)
    return config


def describe_run(folder: Path) -> Described:
    """What the ``run.json`` of a run on disk asks for. Raises RunError when it is not one of this program's."""
    run = read_run(folder)
    try:
        return Described(from_mapping(run["config"]), int(run["seed"]), int(run["threads"]))
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"run.json of {str(folder)!r} lacks or misstates {error}: it is no run of this program"
        ) from error


def presets() -> list[str]:
    """Names that ``--preset`` takes."""
    return sorted(p.name[:-5] for p in (resources.files("sr_cli") / "presets").iterdir() if p.name.endswith(".toml"))


def load_config(file: Path | None, preset: str, settings: Sequence[str]) -> RunConfig:
    """Read preset, then ``file``, then ``key.path=value`` settings, each over the one before."""
    if preset not in presets():
        raise ConfigError(f"unknown preset {preset!r}: {nearest(preset, presets())}")
    merged = _parse((resources.files("sr_cli") / "presets" / f"{preset}.toml").read_text(), f"preset {preset}")
    if file is not None:
        try:
            text = file.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"the configuration {str(file)!r} cannot be read ({error}): give a TOML file") from error
        _merge(merged, _parse(text, str(file)))
    for setting in settings:
        _merge(merged, _setting(setting))
    return from_mapping(merged)


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name} must be TOML, it is not: {error}") from error


def _setting(text: str) -> dict[str, Any]:
    path, equals, value = text.partition("=")
    section, dot, key = path.strip().partition(".")
    if not (equals and dot and key):
        raise ConfigError(f"--set takes section.key=value, got {text!r}")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()  # an unquoted word is a string
    return {section: {key: parsed}}


def _merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    for name, section in other.items():
        if isinstance(section, Mapping) and isinstance(into.get(name), dict):
            into[name].update(section)
        else:
            into[name] = dict(section) if isinstance(section, Mapping) else section
