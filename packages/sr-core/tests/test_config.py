"""Sections as tagged unions: each variant takes its own fields, and an error names the rule, the value, the way out."""

from __future__ import annotations

import inspect
import re
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from sr_core.algorithms import ALGORITHMS, BY_BUDGET, make_algorithm
from sr_core.config import ALGORITHM, PENALTY, SECTIONS, PolicyConfig, TrainConfig
from sr_core.errors import ConfigError
from sr_core.sections import Variants, build, keys_of, plain

UNIONS = {"algorithm": ALGORITHM, "penalty": PENALTY}
CHOICES = [(section, name) for section, variants in UNIONS.items() for name in variants]


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("penalty", {"name": "ewc", "target": 0.1}, "penalty.target belongs to penalty.name 'kl', got 0.1 with 'ewc'"),
        ("penalty", {"coefficient": 1}, "belongs to penalty.name 'kl' or 'ewc', got 1 with 'none' (the default)"),
        ("penalty", {"name": "kl", "target": 0}, "penalty.target must be above 0, got 0"),
        ("penalty", {"name": "kl", "coefficient": -1}, "penalty.coefficient must not be negative, got -1"),
        ("penalty", {"name": "kl", "estimator": "k4"}, "penalty.estimator must be one of 'k1', 'k2', 'k3', got 'k4'"),
        ("penalty", {"name": "kl", "coeficient": 1}, "unknown key penalty.coeficient: did you mean 'coefficient'?"),
        ("penalty", {"name": "ewc", "fisher_samples": 0}, "penalty.fisher_samples must be at least 1, got 0"),
        ("penalty", {"name": "strong_kl"}, "penalty.name must be one of 'none', 'kl', 'ewc', got 'strong_kl'"),
        ("algorithm", {"name": "grpoo"}, "'grpo', 'dr_grpo'"),
        ("algorithm", {"clip": 0.2}, "belongs to algorithm.name 'reinforce++', 'rloo', 'grpo', 'dr_grpo', 'dapo' or"),
        ("algorithm", {"name": "grpo", "baseline": "none"}, "algorithm.baseline belongs to algorithm.name 'reinforce'"),
        ("algorithm", {"name": "grpo", "basline": "none"}, "did you mean 'baseline'?"),
        ("algorithm", {"name": "grpo", "clip": 1.5}, "algorithm.clip must lie between 0 and 1, got 1.5"),
        ("algorithm", {"name": "grpo", "clip": "wide"}, "algorithm.clip must be a finite number, got 'wide'"),
        ("algorithm", {"name": "wapo", "clip_high": 0}, "algorithm.clip_high must be above 0, got 0"),
        ("algorithm", {"name": "asymre", "baseline_shift": 0.1}, "algorithm.baseline_shift must not be above 0"),
        ("algorithm", {"entropy_target": -1}, "algorithm.entropy_target must be above 0, got -1"),
        ("algorithm", {"name": "topr", "entropy_bonus": -1}, "algorithm.entropy_bonus must not be negative, got -1"),
        ("algorithm", {"name": "dapo", "resample": -1}, "algorithm.resample must not be negative, got -1"),
        ("algorithm", {"ema_decay": 1}, "algorithm.ema_decay must lie between 0 and 1, got 1"),
    ],
)
def test_a_bad_value_names_its_rule(section: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(UNIONS[section], values, section)
    assert message in str(caught.value)


@pytest.mark.parametrize(("section", "name"), CHOICES)
def test_every_field_is_taken_by_its_own_variants_only(section: str, name: str) -> None:
    variants: Variants[Any] = UNIONS[section]
    own = variants[name]()
    for key in keys_of(variants):
        if key == "name":
            continue
        owner = variants[variants.having(key)[0]]()
        values = {"name": name, key: getattr(owner, key)}
        if key in keys_of(type(own)):
            value = getattr(own, key)
            assert build(variants, {"name": name} | ({} if value is None else {key: value}), section) == own
        else:
            rule = rf"{section}\.{key} belongs to {section}\.name .*'{re.escape(owner.name)}'"
            with pytest.raises(ConfigError, match=rule):
                build(variants, values, section)


@given(st.sampled_from(CHOICES))
def test_a_section_survives_its_way_through_plain_values(choice: tuple[str, str]) -> None:
    section, name = choice
    made = UNIONS[section][name]()
    assert build(SECTIONS[section], plain(made), section) == made


@pytest.mark.parametrize("name", list(ALGORITHM))
def test_every_algorithm_is_made_from_its_own_options_and_shares_their_defaults(name: str) -> None:
    config = ALGORITHM[name]()
    make_algorithm(config, max_tokens=7)
    parameters = dict(inspect.signature(ALGORITHMS[name].__init__).parameters)  # type: ignore[misc]
    assert set(parameters) - {"self", "args", "kwargs"} == set(config.options()) | (
        {"max_tokens"} if name in BY_BUDGET else set()
    )
    assert {key: parameters[key].default for key in config.options()} == config.options()
    assert list(ALGORITHM) == list(ALGORITHMS)


def test_what_has_never_run_on_a_gpu_is_off_by_default_and_called_experimental() -> None:
    assert not PolicyConfig().cuda_graphs
    assert not PolicyConfig().flex_attention
    assert "experimental" in (PolicyConfig.__doc__ or "")


def test_a_training_configuration_has_a_field_for_each_section() -> None:
    assert list(SECTIONS) == [name for name in TrainConfig.__dataclass_fields__ if name != "seed"]
