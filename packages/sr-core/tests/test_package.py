"""The names of the package, and what is off unless asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tiny import LetterGrader, make_config, make_policy

import sr_core
from sr_core import Engine, PolicyConfig, Trainer


@pytest.mark.parametrize("name", sr_core.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(sr_core, name).__name__ == name


def test_the_list_of_names_is_the_one_that_is_loaded_from() -> None:
    assert sorted(sr_core._HOME) == sorted(sr_core.__all__)


def test_importing_the_package_and_its_configuration_loads_no_torch() -> None:
    code = (
        "import sys, sr_core, sr_core.config, sr_core.runs.run_dir, sr_core.errors; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_no_gpu_has_run_is_off_unless_asked_for() -> None:
    config, engine = PolicyConfig(), Engine(make_policy())
    trained = Trainer(make_policy(), LetterGrader(), make_config()).engine
    for place in (config, engine, trained):
        assert (place.cuda_graphs, place.flex_attention) == (False, False)
    assert not engine.replays_graphs
    assert not engine.uses_flex
    assert "experimental" in (PolicyConfig.__doc__ or "")
    assert "experimental" in (Engine.__doc__ or "")
