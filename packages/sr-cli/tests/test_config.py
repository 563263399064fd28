from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from sr_cli.config import RunConfig, from_mapping, load_config, presets
from sr_core.errors import ConfigError

SECTIONS = [f.name for f in dataclasses.fields(RunConfig)]


def test_every_preset_loads_and_the_contract_names_them() -> None:
    assert {"testbed", "testbed-fragile", "qwen2.5-3b", "qwen2.5-7b", "gemma-3-4b"} == set(presets())
    for name in presets():
        load_config(None, name, [])
    assert load_config(None, "qwen2.5-7b", []).optim.lr == 1e-6


def test_later_ones_win(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("[optim]\nlr = 0.5\n[campaign]\nsteps = 7\n")
    config = load_config(file, "qwen2.5-3b", ["campaign.steps=9", "policy.path=here", "tasks.draw='same'"])
    assert (config.optim.lr, config.campaign.steps, config.campaign.count) == (0.5, 9, 10)
    assert (config.policy.path, config.tasks.draw) == ("here", "same")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("optim.lrr=1", r"unknown key optim.lrr: did you mean 'lr'\?"),
        ("optimm.lr=1", r"unknown section \[optimm\]: did you mean 'optim'\?"),
        ("optim.lr=-1", r"optim.lr must be above 0, got -1"),
        ("optim.lr=nan", r"optim.lr must be a finite number, got nan"),
        ("optim.lr=fast", r"optim.lr must be a finite number, got 'fast'"),
        ("campaign.steps=2.5", r"campaign.steps must be a whole number, got 2.5"),
        ("campaign.steps=true", r"campaign.steps must be a whole number, got True"),
        ("algorithm.name=reinforced", r"algorithm.name must be one of 'reinforce', .* got 'reinforced'"),
        ("sampling.temperature=0", r"sampling.temperature must be above 0"),
        ("lr=1", r"--set takes section.key=value, got 'lr=1'"),
        ("optim.lr", r"--set takes section.key=value"),
    ],
)
def test_a_bad_setting_is_named_with_its_rule_and_the_way_out(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, "testbed", [setting])


def test_a_bad_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "none.toml", "testbed", [])
    broken = tmp_path / "broken.toml"
    broken.write_text("[optim\nlr = 1")
    with pytest.raises(ConfigError, match="must be TOML"):
        load_config(broken, "testbed", [])
    flat = tmp_path / "flat.toml"
    flat.write_text("optim = 3")
    with pytest.raises(ConfigError, match=r"\[optim\] must be a section"):
        load_config(flat, "testbed", [])
    with pytest.raises(ConfigError, match="did you mean 'testbed'"):
        load_config(None, "testbad", [])


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "optim": st.fixed_dictionaries({"lr": st.floats(1e-8, 1.0)}),
            "campaign": st.fixed_dictionaries({"count": st.integers(1, 20), "steps": st.integers(1, 500)}),
            "tasks": st.fixed_dictionaries({"draw": st.sampled_from(["fresh", "same"])}),
            "controller": st.fixed_dictionaries({"name": st.sampled_from(["none", "es", "care", "guard"])}),
        },
    )
)
@settings(max_examples=50, deadline=None)
def test_a_configuration_survives_its_way_through_run_json(sections: dict[str, dict[str, object]]) -> None:
    config = from_mapping(sections)
    assert from_mapping(json.loads(json.dumps(config.plain()))) == config


@given(st.sampled_from(SECTIONS), st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_only_known_keys_are_taken(section: str, key: str) -> None:
    known = key in {f.name for f in dataclasses.fields(type(getattr(RunConfig(), section)))}
    if not known:
        with pytest.raises(ConfigError, match="unknown key"):
            from_mapping({section: {key: 1}})


def test_a_rule_across_sections_is_checked_before_anything_is_made() -> None:
    with pytest.raises(ConfigError, match=r"group_size must be at least 2 for algorithm.name 'grpo'"):
        load_config(None, "testbed", ["algorithm.name=grpo", "sampling.group_size=1"])
