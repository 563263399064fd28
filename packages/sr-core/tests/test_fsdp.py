"""A policy sharded among two processes trains as an whole one does in one process; its runs go on either way."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import two_processes
from test_process_group import assert_close, finish, rows
from tiny import LetterGrader, make_policy
from transformers import AutoModelForCausalLM

from sr_core import Trainer
from sr_core.config import KlConfig
from sr_core.distributed.process_group import Ranks
from sr_core.distributed.sharded_state import local_state
from sr_core.errors import ConfigError


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a chain that two processes have run sharded."""
    folder = tmp_path_factory.mktemp("sharded")
    finish(two_processes.run_two(two_processes.sharded, folder), folder)
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The same chain in one process, where nothing is sharded."""
    folder = tmp_path_factory.mktemp("alone")
    return folder, two_processes.sharded(Ranks(), folder)


def test_a_sharded_run_is_the_run_of_one_process(both: Path, alone: tuple[Path, dict[str, Any]]) -> None:
    folder, result = alone
    assert [row["decision"]["action"] for row in rows(folder / "run")][3] == "roll_back"
    assert_close(rows(both / "run"), rows(folder / "run"))
    parts = [torch.load(both / f"{rank}.pt", weights_only=False)["weights"] for rank in range(2)]
    for name, weight in result["weights"].items():
        assert 0 < len(parts[0][name]) < len(weight)
        assert torch.allclose(torch.cat([part[name] for part in parts]), weight, rtol=1e-3, atol=1e-4)


def test_the_kept_policy_is_saved_whole(both: Path, alone: tuple[Path, dict[str, Any]]) -> None:
    ours, theirs = (AutoModelForCausalLM.from_pretrained(str(folder / "kept")) for folder in (both, alone[0]))
    assert type(ours) is type(theirs)
    sizes = [(folder / "kept" / "model.safetensors").stat().st_size for folder in (both, alone[0])]
    assert sizes[0] == sizes[1]  # tied weights once
    for name, weight in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], weight, rtol=1e-3, atol=1e-4)


def test_a_killed_sharded_run_goes_on_sharded_or_not(both: Path, tmp_path: Path) -> None:
    for process in two_processes.run_two(two_processes.sharded_killed, tmp_path):
        process.join(timeout=120)
    assert 0 < len(rows(tmp_path / "run")) < len(rows(both / "run"))
    shutil.copytree(tmp_path / "run", tmp_path / "whole" / "run")
    two_processes.sharded(Ranks(), tmp_path / "whole")
    assert_close(rows(tmp_path / "whole" / "run"), rows(both / "run"))
    finish(two_processes.run_two(two_processes.sharded, tmp_path), tmp_path)
    assert rows(tmp_path / "run") == rows(both / "run")


def test_bfloat16_weights_are_sharded_with_their_float32_copies(tmp_path: Path) -> None:
    finish(two_processes.run_two(two_processes.sharded_narrow, tmp_path), tmp_path)
    parts = [torch.load(tmp_path / f"{rank}.pt", weights_only=False) for rank in range(2)]
    assert parts[0]["summary"] == parts[1]["summary"]
    whole = make_policy(dtype=torch.bfloat16).model.state_dict()
    for name, rows_ in parts[0]["weights"].items():
        assert rows_.dtype == torch.float32
        assert len(rows_) + len(parts[1]["weights"][name]) == len(whole[name])
    saved = AutoModelForCausalLM.from_pretrained(str(tmp_path / "kept"), dtype="auto")
    assert saved.dtype == torch.bfloat16


def test_what_cannot_be_sharded_is_refused() -> None:
    config = replace(two_processes.SHARDED, penalty=KlConfig())
    with pytest.raises(ConfigError, match=r"and penalty\.name adds others"):
        Trainer(make_policy(), LetterGrader(), config, Ranks(0, 2))


def test_rows_of_all_processes_make_the_whole_again() -> None:
    tree = {"a": torch.arange(10).view(5, 2), "step": torch.tensor(3.0), "few": torch.ones(1, 2), "none": None}
    for count in (1, 2, 3, 7):
        parts = [local_state(tree, Ranks(rank, count)) for rank in range(count)]
        assert torch.equal(torch.cat([part["a"] for part in parts]), tree["a"])
        assert torch.equal(torch.cat([part["few"] for part in parts]), tree["few"])
        assert all(part["step"] == 3 and part["none"] is None for part in parts)
