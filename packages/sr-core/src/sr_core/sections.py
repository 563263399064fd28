"""Sections of a configuration: dataclasses made from plain mappings, checked; an unknown key gets the nearest one.

A section is one dataclass, or ``Variants``: a tagged union whose key ``name`` chooses the dataclass. The mappings come
from TOML files and from single settings of a command line.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import sys
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from sr_core.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Section = TypeVar("Section")
TAG = "name"
# what other trainers call them, or a user who leaves the section out
ALIASES = {
    "lr": "optim.lr",
    "learning_rate": "optim.lr",
    "steps": "campaign.steps",
    "max_steps": "campaign.steps",
    "num_generations": "sampling.group_size",
    "num_iterations": "optim.epochs",
    "num_prompts": "sampling.prompts",
    "max_completion_length": "sampling.max_new_tokens",
    "max_tokens": "sampling.max_new_tokens",
    "response_length": "sampling.max_new_tokens",
    "model": "policy.path",
    "model_name_or_path": "policy.path",
    "beta": "penalty.coefficient",
    "kl_coef": "penalty.coefficient",
    "epsilon": "algorithm.clip",
    "epsilon_high": "algorithm.clip_high",
    "save_steps": "campaign.checkpoint_every",
    "eval_steps": "evaluate.every",
    "report_to": "tracking.name",
}


def require(condition: bool, key: str, rule: str, value: object) -> None:
    """Raise ConfigError naming ``key``, its ``rule`` and the ``value`` got, unless ``condition`` holds."""
    if not condition:
        raise ConfigError(f"{key} {rule}, got {value!r}")


@dataclass(frozen=True)
class Variants(Generic[Section]):
    """The dataclasses that a section may be; each has its ``name`` as a class attribute. The first is the default."""

    classes: tuple[type[Section], ...]

    def __getitem__(self, name: str) -> type[Section]:
        return self._by_name()[name]

    def __iter__(self) -> typing.Iterator[str]:
        return iter(self._by_name())

    def _by_name(self) -> dict[str, type[Section]]:
        return {vars(variant)[TAG]: variant for variant in self.classes}

    def having(self, key: str) -> list[str]:
        """The names of the variants that have ``key``."""
        return [name for name, variant in self._by_name().items() if key in keys_of(variant)]


def keys_of(section: type[Any] | Variants[Any]) -> list[str]:
    """The keys that a section may have; of variants, those of any of them and the tag."""
    if isinstance(section, Variants):
        return list(dict.fromkeys([TAG, *(key for variant in section.classes for key in keys_of(variant))]))
    return [f.name for f in dataclasses.fields(section)]


def build(
    section: type[Section] | Variants[Section], values: Mapping[str, Any], name: str, sections: Mapping[str, Any] = {}
) -> Section:
    """Make the dataclass ``section``, or the variant that ``values["name"]`` chooses, from ``values``.

    Raises ConfigError for an unknown key (naming the nearest valid one, here or in the other ``sections``), a key of
    another variant (naming the variants it belongs to), a value of the wrong type, or a value that breaks a rule of the
    section; messages carry the full key ``name.key``.
    """
    if isinstance(section, Variants):
        return _build_variant(section, values, name, sections)
    hints = typing.get_type_hints(section)
    keys = keys_of(section)
    for key, value in values.items():
        if key not in keys:
            raise ConfigError(f"unknown key {name}.{key}: {_way_out(key, sections, keys)}")
        if not _fits(value, hints[key]):
            raise ConfigError(f"{name}.{key} must be {_describe(hints[key])}, got {value!r}")
    return section(**values)


def _build_variant(
    section: Variants[Section], values: Mapping[str, Any], name: str, sections: Mapping[str, Any]
) -> Section:
    chosen = values.get(TAG, next(iter(section)))
    if chosen not in list(section):
        raise ConfigError(f"{name}.{TAG} must be one of {', '.join(map(repr, section))}, got {chosen!r}")
    variant = section[chosen]
    given = {key: value for key, value in values.items() if key != TAG}
    for key, value in given.items():
        if key in keys_of(variant):
            continue
        owners = section.having(key)
        if not owners:
            way_out = _way_out(key, sections, [TAG, *keys_of(variant)], keys_of(section))
            raise ConfigError(f"unknown key {name}.{key}: {way_out}")
        default = "" if TAG in values else " (the default)"
        raise ConfigError(
            f"{name}.{key} belongs to {name}.{TAG} {_listed(owners)}, got {value!r} with {chosen!r}{default}: "
            f"remove it, or set {name}.{TAG}"
        )
    return build(variant, given, name)


def plain(section: Any) -> dict[str, Any]:
    """A section as plain values that ``build`` takes; what is not set is left out."""
    tag = {TAG: getattr(section, TAG)} if hasattr(section, TAG) else {}
    return tag | {key: value for key, value in dataclasses.asdict(section).items() if value is not None}


def layered(
    lower: Mapping[str, Any], upper: Mapping[str, Any], sections: Mapping[str, type[Any] | Variants[Any]]
) -> dict[str, Any]:
    """Values by section, ``upper`` over ``lower``; where ``upper`` names another variant, keys that it lacks go."""
    merged = {name: dict(section) if isinstance(section, Mapping) else section for name, section in lower.items()}
    for name, section in upper.items():
        variants = sections.get(name)
        if isinstance(variants, Variants) and isinstance(section, Mapping) and section.get(TAG) in list(variants):
            known = keys_of(variants[section[TAG]])
            merged[name] = {key: value for key, value in merged.get(name, {}).items() if key in known}
    merge(merged, upper)
    return merged


def merge(into: dict[str, Any], other: Mapping[str, Any]) -> None:
    """Put the values of ``other`` into ``into``, section by section."""
    for name, section in other.items():
        if isinstance(section, Mapping) and isinstance(into.get(name), dict):
            into[name].update(section)
        else:
            into[name] = dict(section) if isinstance(section, Mapping) else section


def as_options(settings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Values by section as ``--set section.key=value``, the value as TOML."""
    pairs = [(f"{name}.{key}", value) for name, section in settings.items() for key, value in section.items()]
    # numbers, strings, true, false and lists of them are written alike in JSON and TOML
    return [part for key, value in pairs for part in ("--set", f"{key}={json.dumps(value)}")]


def nearest(key: str, *valid: Iterable[str]) -> str:
    """The way out for an unknown ``key``: the closest of ``valid``, tried in turn, or a list of the first."""
    for some in map(list, valid):
        if close := difflib.get_close_matches(key, some, n=1, cutoff=0.5):
            return f"did you mean {close[0]!r}?"
    return f"valid are {', '.join(valid[0])}"


def _way_out(key: str, sections: Mapping[str, Any], *valid: Iterable[str]) -> str:
    """``nearest`` of ``valid``, or else where another trainer's name, or the same key, is in ``sections``."""
    found = nearest(key, *valid)
    if found.startswith("valid are"):
        elsewhere = [f"{name}.{key}" for name, section in sections.items() if key in keys_of(section)]
        if alias := [ALIASES[key]] if key in ALIASES else elsewhere:
            return f"did you mean {' or '.join(map(repr, alias))}?"
    return found


def _listed(names: list[str]) -> str:
    *most, last = map(repr, names)
    return f"{', '.join(most)} or {last}" if most else last


def _fits(value: object, hint: Any) -> bool:
    origin = typing.get_origin(hint)
    if origin is Literal:
        return value in typing.get_args(hint)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, typing.get_args(hint)[0]) for item in value)
    if origin in (types.UnionType, typing.Union):
        return any(_fits(value, part) for part in typing.get_args(hint))
    if hint is float:  # TOML writes 1 for 1.0
        return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _describe(hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(hint)))
    if typing.get_origin(hint) is list:
        return f"a list, each item {_describe(typing.get_args(hint)[0])}"
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        return " or ".join(_describe(part) for part in typing.get_args(hint) if part is not type(None))
    return {float: "a finite number", int: "a whole number", str: "a string", bool: "true or false"}.get(
        hint, getattr(hint, "__name__", str(hint))
    )


def read_toml(file: Path) -> dict[str, Any]:
    """The file's values. Raises ConfigError where it cannot be read or is not TOML."""
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the file {str(file)!r} cannot be read ({error}): give a TOML file") from error
    return parse_toml(text, str(file))


def parse_toml(text: str, name: str) -> dict[str, Any]:
    """The values of a text that is called ``name``. Raises ConfigError where it is not TOML."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name} must be TOML, it is not: {error}") from error


def parse_settings(settings: Iterable[str], given: dict[str, Any]) -> dict[str, Any]:
    """``given``, nested values by section, with settings ``section.key=value`` over them."""
    for setting in settings:
        merge(given, _parse_setting(setting))
    return given


def _parse_setting(text: str) -> dict[str, Any]:
    """``section.key=value`` as nested values; a value that is not TOML is a string."""
    path, equals, value = text.partition("=")
    section, dot, key = path.strip().partition(".")
    if not (equals and dot and key):
        known = ALIASES.get(section)
        raise ConfigError(f"--set takes section.key=value, got {text!r}{f'; did you mean {known!r}?' if known else ''}")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()  # an unquoted word is a string
    return {section: {key: parsed}}
