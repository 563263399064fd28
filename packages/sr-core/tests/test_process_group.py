"""Two processes over gloo against one: the same gradients, decisions and run, and no hang when one of them dies."""

from __future__ import annotations

import json
import shutil
import signal
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
import two_processes
from gradients import assert_same
from hypothesis import given

from sr_core.distributed.process_group import Ranks


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


def assert_close(ours: Any, theirs: Any) -> None:
    """Equal, numbers to 1e-4 of their size."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for key in theirs:
            assert_close(ours[key], theirs[key])
    elif isinstance(theirs, list):
        for one, other in zip(ours, theirs, strict=True):
            assert_close(one, other)
    else:
        assert ours == (pytest.approx(theirs, rel=1e-4, abs=1e-6) if isinstance(theirs, float) else theirs)


def finish(processes: list[BaseProcess], folder: Path) -> None:
    for rank, process in enumerate(processes):
        process.join(timeout=120)
        assert process.exitcode == 0, (folder / f"{rank}.err").read_text()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes have done everything once."""
    folder = tmp_path_factory.mktemp("both")
    finish(two_processes.run_two(two_processes.everything, folder), folder)
    return folder


@pytest.fixture(scope="module")
def results(both: Path) -> list[dict[str, Any]]:
    return [torch.load(both / f"{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.parametrize(("kind", "tolerance"), two_processes.KINDS.items())
def test_gradients_of_a_global_batch_are_those_of_one_process(
    results: list[dict[str, Any]], kind: str, tolerance: float
) -> None:
    alone = two_processes.gradients(Ranks(), kind)
    for result in results:
        assert_same(result["gradients"][kind], alone, tolerance)


def test_a_run_of_two_processes_is_the_run_of_one(both: Path, results: list[dict[str, Any]], tmp_path: Path) -> None:
    alone = two_processes.chain(Ranks(), tmp_path)
    assert [row["decision"]["action"] for row in rows(tmp_path / "run")][3] == "roll_back"
    assert_close(rows(both / "run"), rows(tmp_path / "run"))
    assert_close(results[0]["chain"]["summary"], alone["summary"])
    for name, weight in alone["weights"].items():
        torch.testing.assert_close(results[0]["chain"]["weights"][name], weight, rtol=1e-3, atol=1e-4)


def test_both_processes_end_with_the_same_weights_and_summary(results: list[dict[str, Any]]) -> None:
    first, second = (result["chain"] for result in results)
    assert first["summary"] == second["summary"]
    assert all(torch.equal(first["weights"][name], weight) for name, weight in second["weights"].items())


def test_grading_is_shared_out(results: list[dict[str, Any]]) -> None:
    first, second = (result["chain"]["graded"] for result in results)
    assert 0.4 < first / (first + second) < 0.6


def test_a_failure_of_one_process_is_a_failure_of_all(results: list[dict[str, Any]]) -> None:
    said = [result["failures"] for result in results]
    assert [s["ours"] for s in said] == ["NonFiniteError: not finite"] * 2
    assert said[0]["other"] == "ElsewhereError: process 1: OSError('no disk')"
    assert said[1]["other"] == "OSError: no disk"
    assert all("must come to the same decision, got 0, 1" in s["agree"] for s in said)


def test_when_one_is_killed_the_other_ends_with_a_clear_error_and_the_run_goes_on(both: Path, tmp_path: Path) -> None:
    first, second = two_processes.run_two(two_processes.killed, tmp_path)
    second.join(timeout=120)
    assert second.exitcode == -signal.SIGKILL
    first.join(timeout=20)
    assert first.exitcode == 2
    said = (tmp_path / "0.err").read_text()
    assert "RankError: every process of a run must stay until its end, and process 0 of 2 has lost the others" in said
    assert "sr resume" in said
    assert "Traceback" not in said
    assert 0 < len(rows(tmp_path / "run")) < len(rows(both / "run"))
    shutil.copytree(tmp_path / "run", tmp_path / "alone" / "run")
    two_processes.chain(Ranks(), tmp_path / "alone")  # on another number of processes: the same to rounding
    assert_close(rows(tmp_path / "alone" / "run"), rows(both / "run"))
    finish(two_processes.run_two(two_processes.chain, tmp_path), tmp_path)
    assert rows(tmp_path / "run") == rows(both / "run")


@given(st.integers(0, 40), st.integers(1, 9))
def test_shares_are_consecutive_and_even(count: int, processes: int) -> None:
    shares = [Ranks(rank, processes).share(count) for rank in range(processes)]
    assert [i for share in shares for i in share] == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(st.lists(st.integers(1, 100), max_size=20), st.integers(1, 9))
def test_what_is_dealt_reaches_one_process_and_none_has_much_more(weights: list[int], processes: int) -> None:
    dealt = [Ranks(rank, processes).balance(range(len(weights)), weights) for rank in range(processes)]
    assert sorted(i for part in dealt for i in part) == list(range(len(weights)))
    loads = [sum(weights[i] for i in part) for part in dealt]
    assert max(loads) - min(loads) <= max(weights, default=0)
