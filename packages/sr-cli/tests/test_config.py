from __future__ import annotations

import json
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from sr_cli.config import GUARD, SECTIONS, RunConfig, from_mapping, load_config, presets
from sr_core.errors import ConfigError
from sr_core.policy.sources import KNOWN
from sr_core.sections import ALIASES, keys_of, layered

REAL = {"smollm2-135m", "smollm2-135m-testbed", "gemma-3-270m"}


def test_presets_of_real_models_have_measured_steps_and_weights_that_are_known() -> None:
    for name in REAL:
        train = load_config(None, name, []).train
        assert train.optim.step == "measured"
        assert train.policy.path in KNOWN
    assert load_config(None, "smollm2-135m-testbed", []).tasks.path == "testbed"


def test_every_preset_loads_and_the_contract_names_them() -> None:
    demos = {"testbed-demo", "smollm2-135m-demo"}
    assert {"testbed", "testbed-fragile", "qwen2.5-3b", "qwen2.5-7b", "gemma-3-4b"} | REAL | demos == set(presets())
    for name in presets():
        load_config(None, name, [])
    assert load_config(None, "qwen2.5-7b", []).train.optim.lr == 1e-6


def test_later_ones_win(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text("[optim]\nlr = 0.5\n[campaign]\nsteps = 7\n")
    config = load_config(file, "qwen2.5-3b", ["campaign.steps=9", "policy.path=here", "tasks.train=4"])
    train = config.train
    assert (train.optim.lr, train.campaign.steps, train.campaign.count) == (0.5, 9, 10)
    assert (train.policy.path, config.tasks.train) == ("here", 4)


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
        ("lr=1", r"--set takes section.key=value, got 'lr=1'; did you mean 'optim.lr'\?"),
        ("optim.learning_rate=1", r"unknown key optim.learning_rate: did you mean 'optim.lr'\?"),
        ("optim.temperature=1", r"unknown key optim.temperature: did you mean 'sampling.temperature'\?"),
        ("guard.lr=1", r"unknown key guard.lr: did you mean 'optim.lr'\?"),
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
            "tasks": st.fixed_dictionaries({"train": st.integers(1, 99)}),
            "guard": st.fixed_dictionaries({"name": st.sampled_from(list(GUARD))}),
            "planner": st.sampled_from([{"name": "care"}, {"name": "schedule", "budgets": [3, 0]}, {}]),
            "algorithm": st.sampled_from([{"name": "grpo", "clip": 0.1}, {"baseline": "ema"}, {"name": "topr"}]),
            "penalty": st.sampled_from([{"name": "kl", "target": 0.1}, {"name": "ewc", "fisher_samples": 8}]),
        },
    )
)
@settings(max_examples=50, deadline=None)
def test_a_configuration_survives_its_way_through_run_json(sections: dict[str, dict[str, object]]) -> None:
    config = from_mapping(sections)
    assert from_mapping(json.loads(json.dumps(config.plain()))) == config


def test_a_setting_that_is_none_is_named_before_a_file_is_read() -> None:
    with pytest.raises(ConfigError, match=r"--set takes section.key=value, got 'optim.lr'"):
        load_config(Path("1e-3"), "testbed", ["optim.lr"])


def test_names_of_other_trainers_lead_to_keys_that_exist() -> None:
    for path in ALIASES.values():
        section, _, key = path.partition(".")
        assert key in keys_of(SECTIONS[section])


@given(st.sampled_from(list(SECTIONS)), st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_only_known_keys_are_taken(section: str, key: str) -> None:
    if key not in keys_of(SECTIONS[section]):
        with pytest.raises(ConfigError, match=rf"unknown key {section}\.{key}: (did you mean|valid are)"):
            from_mapping({section: {key: 1}})


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        (["algorithm.clip=0.1"], r"algorithm.clip belongs to algorithm.name .*'grpo'.*, got 0.1 with 'reinforce'"),
        (["guard.margin=0.2"], r"guard.margin belongs to guard.name 'collapse', got 0.2 with 'none' \(the default\)"),
        (["guard.name=collapse", "guard.patience=5"], r"guard.patience belongs to guard.name 'early_stop', got 5"),
        (["planner.version=v3"], r"planner.version belongs to planner.name 'care'"),
        (["planner.name=care", "planner.budgets=[3]"], r"planner.budgets belongs to planner.name 'schedule'"),
        (["planner.name=schedule"], r"planner.budgets must list steps per campaign, none negative, got \[\]"),
        (["guard.name=es"], r"guard.name must be one of 'none', 'early_stop', 'collapse', got 'es'"),
        (["guard.name=collapse", "guard.budget=0"], r"guard.budget must lie in \(0, 1\], got 0"),
        (["controller.name=guard"], r"unknown section \[controller\]: it is \[guard\] .* and \[planner\]"),
    ],
)
def test_a_key_of_another_variant_is_an_error_that_names_its_own(settings_: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(None, "testbed", settings_)


def test_naming_another_variant_replaces_what_a_preset_said_of_its_own() -> None:
    preset = {"algorithm": {"name": "grpo", "clip": 0.1, "entropy_bonus": 0.2}, "optim": {"lr": 0.1}}
    assert layered(preset, {"algorithm": {"name": "reinforce", "baseline": "ema"}}, SECTIONS) == {
        "algorithm": {"name": "reinforce", "baseline": "ema", "entropy_bonus": 0.2},
        "optim": {"lr": 0.1},
    }
    assert layered(preset, {"algorithm": {"clip": 0.3}}, SECTIONS)["algorithm"] == preset["algorithm"] | {"clip": 0.3}
    assert preset["algorithm"]["clip"] == 0.1


def test_a_file_that_mixes_variants_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text('[algorithm]\nname = "grpo"\nclip = 0.1\n')
    with pytest.raises(ConfigError, match=r"algorithm.clip belongs to"):
        load_config(file, "testbed", ["algorithm.name=topr"])


def test_presets_that_differ_in_one_line_share_the_rest() -> None:
    rich, fragile = (load_config(None, name, []) for name in ("testbed", "testbed-fragile"))
    different = {name for name, section in rich.plain().items() if section != fragile.plain()[name]}
    assert different == {"policy"}
    assert all(not name.startswith("_") for name in presets())
    with pytest.raises(ConfigError, match="unknown preset '_paper'"):
        load_config(None, "_paper", [])


def test_there_are_at_most_ninety_configuration_fields() -> None:
    fields = [(section, key) for section, made_of in SECTIONS.items() for key in keys_of(made_of)]
    assert len(fields) <= 90
    names = {name for name in RunConfig.__dataclass_fields__ if name != "train"}
    assert names | set(RunConfig().train.__dataclass_fields__) - {"seed"} == set(SECTIONS)


def test_a_rule_across_sections_is_checked_before_anything_is_made() -> None:
    with pytest.raises(ConfigError, match=r"group_size must be at least 2 for algorithm.name 'grpo'"):
        load_config(None, "testbed", ["algorithm.name=grpo", "sampling.group_size=1"])
