"""What a study compares, as its TOML file declares it: arms (ways to train) in regimes (where they are compared).

In every table, keys that are sections of a run's configuration are settings; the others are fields of the dataclasses
below.
Settings are read in this order and later ones win: ``[settings]``, the regime's, with ``--quick`` those of ``[quick]``,
the arm's. Naming another variant drops the keys that it does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sr_core.errors import ConfigError
from sr_core.sections import Variants, build, keys_of, layered, nearest
from sr_core.seeds import rng_for

Settings = dict[str, Any]  # section -> key -> value


@dataclass(frozen=True, kw_only=True)
class Regime:
    """Where arms are compared: a preset, and settings over it."""

    preset: str = "testbed"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A way to train, over ``seeds`` of the seeds asked for (0: all of them).

    ``budget_from``: an arm whose chain of the same seed runs first; ``budget_as`` says what is copied: its ``mean``
    number of steps for every campaign, its numbers of steps ``shuffled``, or as many ``evaluations``, spread evenly
    over full campaigns. ``memory_from``: a CARE arm whose memories under ``memory_seeds`` this one starts with; it runs
    under the other seeds only. ``retired``: why it cannot be run any more; its records are shown.
    """

    label: str = ""
    seeds: int = 0
    budget_from: str = ""
    budget_as: Literal["mean", "shuffled", "evaluations"] = "mean"
    memory_from: str = ""
    memory_seeds: list[int] = field(default_factory=list)
    retired: str = ""


@dataclass(frozen=True, kw_only=True)
class Quick:
    """What ``--quick`` runs; its settings make chains short."""

    arms: list[str] = field(default_factory=list)
    regimes: list[str] = field(default_factory=list)
    seeds: int = 2


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The study's own keys. ``compare``: the arms that every arm is compared with; left out, the first one.

    ``record_every``: steps between evaluations of arms that decide nothing by them and do not set ``evaluate.every``
    themselves; 0 leaves them as they are set.
    """

    seeds: int = 5
    compare: list[str] = field(default_factory=list)
    record_every: int = 0
    default_regimes: list[str] = field(default_factory=list)


class StudySpec:
    """A study's values, checked. ``sections``: those of a run's configuration.

    ``check`` is called with the preset and the settings of every arm in every regime that can run; it raises
    ConfigError where they are no valid configuration.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        sections: Mapping[str, type[Any] | Variants[Any]],
        check: Callable[[str, Settings], object],
        *,
        quick: bool = False,
    ) -> None:
        self.sections = sections
        tables = {name: values.get(name, {}) for name in ("settings", "regimes", "arms", "quick")}
        own = {name: value for name, value in values.items() if name not in tables}
        for name in own:
            if name not in keys_of(Choice):
                raise ConfigError(f"unknown key {name} of a study: {nearest(name, [*tables, *keys_of(Choice)])}")
        self.choice = build(Choice, own, "study")
        if not tables["arms"]:
            raise ConfigError("a study must declare at least one arm, got none: add a table [arms.NAME]")
        if quick and not tables["quick"]:
            raise ConfigError("--quick needs what to run, the study has no table [quick]: add one, or leave it out")
        self._settings = self._only_settings(tables["settings"])
        self.regimes: dict[str, Regime] = {}
        self.arms: dict[str, Arm] = {}
        self._of: dict[str, Settings] = {}
        for name, table in (tables["regimes"] or {"testbed": {}}).items():
            self.regimes[name], self._of[f"regime {name}"] = self._split(Regime, table, f"regimes.{name}")
        for name, table in tables["arms"].items():
            self.arms[name], self._of[f"arm {name}"] = self._split(Arm, table, f"arms.{name}")
        self.quick, self._quick = self._split(Quick, tables["quick"] if quick else {}, "quick")
        self.compare = self.named("arm", self.choice.compare) or [next(iter(self.arms))]
        self.named("regime", [*self.choice.default_regimes, *self.quick.regimes])
        self.named("arm", self.quick.arms)
        for name, arm in self.arms.items():
            self.named("arm", [other for other in (arm.budget_from, arm.memory_from) if other])
            for regime in self.regimes if not arm.retired else ():
                self._checked(check, regime, name)

    def _checked(self, check: Callable[[str, Settings], object], regime: str, arm: str) -> None:
        try:
            check(self.regimes[regime].preset, self.before_copying(regime, arm))
        except ConfigError as error:
            raise ConfigError(f"arm {arm} in regime {regime}: {error}") from error

    def label(self, arm: str) -> str:
        """The arm's name for people."""
        return self.arms[arm].label or arm

    def named(self, kind: str, names: Sequence[str]) -> list[str]:
        """These arms or regimes in the file's order. Raises ConfigError for an unknown one."""
        known: Mapping[str, object] = self.arms if kind == "arm" else self.regimes
        for name in names:
            if name not in known:
                raise ConfigError(f"unknown {kind} {name!r}: {nearest(name, known)}")
        return [name for name in known if name in names]

    def with_sources(self, names: Sequence[str]) -> list[str]:
        """The arms of these names, each after those it copies from."""
        wanted: list[str] = []

        def add(name: str) -> None:
            for other in (self.arms[name].budget_from, self.arms[name].memory_from):
                if other and other not in wanted:
                    add(other)
            if name not in wanted:
                wanted.append(name)

        for name in self.named("arm", names):
            add(name)
        return wanted

    def settings_of(self, regime: str, arm: str, copied: Settings | None = None) -> Settings:
        """The settings of a chain over its regime's preset; ``copied``: those taken from what another arm did."""
        merged: Settings = {}
        for settings in (self._settings, self._of[f"regime {regime}"], self._quick, self._of[f"arm {arm}"]):
            merged = self._layered(merged, settings)
        its_own = "every" in self._of[f"arm {arm}"].get("evaluate", {})
        if self.choice.record_every and not its_own and not _decides(merged):
            merged = self._layered(merged, {"evaluate": {"every": self.choice.record_every}})
        return self._layered(merged, copied or {})

    def before_copying(self, regime: str, arm: str) -> Settings:
        """The settings of a chain with stand-ins for what is copied, so that they are a whole configuration."""
        settings = self.settings_of(regime, arm)
        if self.arms[arm].budget_from and settings.get("planner", {}).get("name") == "schedule":
            settings = self._layered({"planner": {"name": "schedule", "budgets": [1]}}, settings)
        return settings

    def decides(self, arm: str) -> bool:
        """Whether the arm's evaluations decide anything; else they are for the record and no cost of it."""
        return _decides(self.settings_of(next(iter(self.regimes)), arm))

    def copied(self, arm: str, steps: Sequence[int], evaluations: int, seed: int, most: int) -> Settings:
        """What ``arm`` copies from a chain of campaigns of ``steps`` (at most ``most`` each) with ``evaluations``."""
        how = self.arms[arm].budget_as
        if how == "mean":
            return {"planner": {"budgets": [round(sum(steps) / len(steps))] * len(steps)}}
        if how == "shuffled":
            order = rng_for(seed, 0, 0, "random stop").permutation(len(steps))
            return {"planner": {"budgets": [steps[i] for i in order]}}
        return {"evaluate": {"every": max(1, round(len(steps) * most / evaluations))}}

    def contradicts(self, regime: str, arm: str, config: Mapping[str, Any]) -> str:
        """How the configuration of a record differs from what the arm's settings say; "" where it does not.

        Keys that the record does not have are of a later version. What is copied from another arm differs by chain.
        """
        known = modern(config)
        copied = {("planner", "budgets"), ("planner", "memory"), ("tasks", "ood")}  # the last one is measured only
        if self.arms[arm].budget_as == "evaluations":
            copied |= {("evaluate", "every")}
        for section, settings in self.settings_of(regime, arm).items():
            for key, value in settings.items():
                then = known.get(section, {}).get(key, value)
                if then != value and (section, key) not in copied:
                    return f"{section}.{key} = {then!r}, not {value!r}"
        return ""

    def _layered(self, lower: Settings, upper: Settings) -> Settings:
        return layered(lower, upper, self.sections)

    def _split(self, section: type[Any], table: object, name: str) -> tuple[Any, Settings]:
        """A table's own keys as the dataclass, and its settings."""
        if not isinstance(table, Mapping):
            raise ConfigError(f"[{name}] must be a table, got {table!r}")
        settings = {k: dict(v) for k, v in table.items() if k in self.sections and isinstance(v, Mapping)}
        own = {key: value for key, value in table.items() if key not in settings}
        for key in own:
            if key not in keys_of(section):
                raise ConfigError(f"unknown key {name}.{key}: {nearest(key, [*keys_of(section), *self.sections])}")
        return build(section, own, name), settings

    def _only_settings(self, table: Mapping[str, Any]) -> Settings:
        for key in table:
            if key not in self.sections:
                raise ConfigError(f"unknown section settings.{key}: {nearest(key, self.sections)}")
        return {key: dict(value) for key, value in table.items()}


def modern(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A configuration of an earlier version with its sections and names as they are now."""
    now = {name: dict(section) for name, section in config.items()}
    if old := now.pop("controller", None):
        guard = {"es": "early_stop", "guard": "collapse"}.get(old["name"], "none")
        planner = old["name"] if old["name"] in ("schedule", "care") else "none"
        now |= {"guard": old | {"name": guard}, "planner": old | {"name": planner}}
        now["guard"]["budget"] = old.get("share", 1.0) if old.get("evaluation") == "budget" else 1.0
    if now.get("penalty", {}).get("name") == "strong_kl":
        now["penalty"]["name"] = "kl"
    return now


def _decides(settings: Settings) -> bool:
    guard, planner = (settings.get(section, {}).get("name", "none") for section in ("guard", "planner"))
    return bool(guard != "none" or planner == "care")
