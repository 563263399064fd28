"""What a command that only samples and grades reads of a run's configuration."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sr_core.config import PolicyConfig, SamplingConfig
from sr_core.errors import ConfigError
from sr_core.sections import build, parse_settings

__all__ = ["EvaluationConfig", "for_evaluation"]


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """``sandbox``: the keys that were given."""

    policy: PolicyConfig
    sampling: SamplingConfig
    sandbox: dict[str, Any]


def for_evaluation(values: dict[str, Any], settings: Iterable[str], sandbox: type[Any]) -> EvaluationConfig:
    """Plain values by section with ``settings`` over them, checked; ``sandbox`` is the dataclass of that section.

    Raises ConfigError as ``sections.build`` does, and for settings that change nothing where nothing is trained.
    """
    given = parse_settings(settings, values)
    sections: dict[str, type[Any]] = {"policy": PolicyConfig, "sampling": SamplingConfig, "sandbox": sandbox}
    for name in given:
        if name not in sections:
            raise ConfigError(
                f"section [{name}] is none of an evaluation: valid are [policy], [sampling] and [sandbox]"
            )
    for key, instead in (("prompts", "all tasks are asked"), ("group_size", "give --samples")):
        if key in given.get("sampling", {}):
            raise ConfigError(f"sampling.{key} changes nothing where nothing is trained: {instead}")
    made = {name: build(section, given.get(name, {}), name) for name, section in sections.items()}
    return EvaluationConfig(policy=made["policy"], sampling=made["sampling"], sandbox=dict(given.get("sandbox", {})))
