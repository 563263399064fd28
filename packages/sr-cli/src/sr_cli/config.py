"""The configuration of a run: one frozen dataclass per TOML section, from preset, file and command line.

Later ones win: defaults, preset, file and ``--set``. What training needs is ``sr_core.config``'s ``TrainConfig``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from sr_core.config import SECTIONS as TRAINING
from sr_core.config import TrainConfig
from sr_core.errors import ConfigError, RunError
from sr_core.runs.run_dir import read_run
from sr_core.sections import Variants, build, layered, nearest, parse_settings, parse_toml, plain, read_toml, require


@dataclass(frozen=True, kw_only=True)
class TasksConfig:
    """Which tasks: the embedded ``testbed`` or a task file. ``train`` and ``heldout`` are drawn for each campaign.

    ``audit``: size of the audit set; left out, all audit tasks of the testbed, and none of a file. ``ood``: with a
    ``care`` planner, how many tasks of other families every kept policy is evaluated on (``evaluate.samples`` each);
    a file has none.
    """

    path: str = "testbed"
    train: int = 50
    heldout: int = 30
    audit: int | None = None
    ood: int = 30

    def __post_init__(self) -> None:
        require(self.train >= 1, "tasks.train", "must be at least 1", self.train)
        require(self.heldout >= 1, "tasks.heldout", "must be at least 1", self.heldout)
        require(self.audit is None or self.audit >= 0, "tasks.audit", "must not be negative", self.audit)
        require(self.ood >= 0, "tasks.ood", "must not be negative", self.ood)


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """Who decides within a campaign; its variants are in ``GUARD``."""

    name: ClassVar[str]


@dataclass(frozen=True, kw_only=True)
class NoGuardConfig(GuardConfig):
    """No guard: evaluations are recorded and change nothing."""

    name: ClassVar[str] = "none"


@dataclass(frozen=True, kw_only=True)
class EarlyStopConfig(GuardConfig):
    """``sr_monitor.EarlyStop``, the paper's ES and ordinary patience."""

    name: ClassVar[str] = "early_stop"

    mode: Literal["next_budget", "patience"] = "next_budget"
    patience: int = 3

    def __post_init__(self) -> None:
        require(self.patience >= 1, "guard.patience", "must be at least 1", self.patience)


@dataclass(frozen=True, kw_only=True)
class CollapseConfig(GuardConfig):
    """``sr_monitor.CollapseGuard``, which has the meaning and the defaults of the first four.

    ``budget``: the largest share of a campaign's samples that evaluations may take; 1 sets no limit, and every
    evaluation then draws ``evaluate.samples`` for all held-out tasks.
    """

    name: ClassVar[str] = "collapse"

    false_alarm: float = 0.05
    margin: float = 0.10
    max_rollbacks: int = 3
    lr_factor: float = 0.5
    budget: float = 0.25

    def __post_init__(self) -> None:  # the guard checks the others
        require(0 < self.budget <= 1, "guard.budget", "must lie in (0, 1]", self.budget)


GUARD: Variants[GuardConfig] = Variants((NoGuardConfig, EarlyStopConfig, CollapseConfig))


@dataclass(frozen=True, kw_only=True)
class PlannerConfig:
    """Who decides between campaigns; its variants are in ``PLANNER``."""

    name: ClassVar[str]


@dataclass(frozen=True, kw_only=True)
class NoPlannerConfig(PlannerConfig):
    """No planner: every campaign has the configured steps and learning rate."""

    name: ClassVar[str] = "none"


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig(PlannerConfig):
    """``budgets``: steps of each campaign, the last one for all that follow; 0 leaves the policy as it is."""

    name: ClassVar[str] = "schedule"

    budgets: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        good = bool(self.budgets) and all(budget >= 0 for budget in self.budgets)
        require(good, "planner.budgets", "must list steps per campaign, none negative", self.budgets)


@dataclass(frozen=True, kw_only=True)
class CareConfig(PlannerConfig):
    """``sr_care.CarePlanner``. ``memory``: the file it learns from and adds to; left out, one of the run's own."""

    name: ClassVar[str] = "care"

    version: Literal["v1", "v2", "v3", "memory_only", "gate_only", "no_revision"] = "v2"
    memory: str = ""


PLANNER: Variants[PlannerConfig] = Variants((NoPlannerConfig, ScheduleConfig, CareConfig))


@dataclass(frozen=True, kw_only=True)
class SandboxConfig:
    """Where programs run. ``workers`` of each process; 0 is one per core. A run refuses to start where the level
    ``require_isolation`` is not available; ``limits`` keeps no verdict safe, so that training must ask for it by name.
    """

    workers: int = 0
    timeout_s: float = 2.0
    memory_mb: int = 256
    isolation: Literal["auto", "full", "landlock", "limits"] = "auto"
    require_isolation: Literal["", "full", "landlock", "limits"] = "landlock"

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
    """A whole run: what trains, on which tasks, who decides, where programs run and where rows go."""

    train: TrainConfig = field(default_factory=TrainConfig)
    tasks: TasksConfig = field(default_factory=TasksConfig)
    guard: GuardConfig = field(default_factory=NoGuardConfig)
    planner: PlannerConfig = field(default_factory=NoPlannerConfig)
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)

    def training(self, seed: int) -> TrainConfig:
        """What a trainer reads, with the run's seed."""
        return dataclasses.replace(self.train, seed=seed)

    def plain(self) -> dict[str, dict[str, Any]]:
        """As plain values, section by section, for ``run.json``; what is not set is left out."""
        return {name: plain(getattr(self.train if name in TRAINING else self, name)) for name in SECTIONS}


SECTIONS: dict[str, type[Any] | Variants[Any]] = {
    **TRAINING,
    "tasks": TasksConfig,
    "guard": GUARD,
    "planner": PLANNER,
    "sandbox": SandboxConfig,
    "tracking": TrackingConfig,
}
# what became of sections of earlier versions
MOVED = {"controller": "it is [guard] (none, early_stop, collapse) and [planner] (none, schedule, care) now"}


class Described(NamedTuple):
    """A run's configuration, its seed and the number of threads it was started with."""

    config: RunConfig
    seed: int
    threads: int


def from_mapping(sections: Mapping[str, Any]) -> RunConfig:
    """Validate plain nested values. Raises ConfigError naming the key, its rule, and the nearest valid key."""
    made: dict[str, Any] = {}
    for name, values in sections.items():
        if name not in SECTIONS:
            raise ConfigError(f"unknown section [{name}]: {MOVED.get(name) or nearest(name, SECTIONS)}")
        if not isinstance(values, Mapping):
            raise ConfigError(f"[{name}] must be a section of keys, got {values!r}")
        made[name] = build(SECTIONS[name], values, name, SECTIONS)
    train = TrainConfig(**{name: made.pop(name) for name in TRAINING if name in made})
    config = RunConfig(train=train, **made)
    if train.optim.average is None:
        optim = dataclasses.replace(train.optim, average=isinstance(config.guard, CollapseConfig))
        config = dataclasses.replace(config, train=dataclasses.replace(train, optim=optim))
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
    names = (path.name for path in (resources.files("sr_cli") / "presets").iterdir())
    return sorted(name[:-5] for name in names if name.endswith(".toml") and not name.startswith("_"))


def load_config(file: Path | None, preset: str, settings: Sequence[str]) -> RunConfig:
    """Read preset, then ``file`` with ``key.path=value`` settings over it.

    A file or setting that names another variant than the preset's replaces that section of the preset.
    """
    parse_settings(settings, {})  # what is no setting is named before a file is read
    given = parse_settings(settings, {} if file is None else read_toml(file))
    return from_mapping(over_preset(preset, given))


def over_preset(preset: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of ``preset`` with those ``given`` over them. Raises ConfigError for an unknown preset."""
    if preset not in presets():
        raise ConfigError(f"unknown preset {preset!r}: {nearest(preset, presets())}")
    return layered(_preset(preset), given, SECTIONS)


def _preset(name: str) -> dict[str, Any]:
    """A preset's values over those of the one it ``extends``; names with an underscore are only to be extended."""
    values = parse_toml((resources.files("sr_cli") / "presets" / f"{name}.toml").read_text(), f"preset {name}")
    base = values.pop("extends", None)
    return values if base is None else layered(_preset(base), values, SECTIONS)
