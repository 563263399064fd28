"""What a machine offers, and what is advised where that is too little."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sr_core.runs import machine
from sr_core.runs.machine import Extra, Finding, check_machine


def by_name(found: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in found}


def test_whatever_is_not_well_comes_with_advice_and_what_is_well_without(tmp_path: Path) -> None:
    extras = {"here": Extra(("torch",), "x", "y"), "gone": Extra(("no-such-package",), "a purpose", "a way")}
    found = by_name(check_machine(tmp_path / "not" / "yet", extras))
    assert {"versions", "threads", "GPU", "disk", "here", "gone"} <= set(found)
    assert all(bool(finding.advice) == (finding.status != "ok") for finding in found.values())
    assert f"torch {torch.__version__.split('+')[0]}" in found["versions"].found
    assert (found["here"].status, found["gone"].status) == ("ok", "note")
    assert "a purpose: a way" in str(found["gone"])
    assert not (tmp_path / "not").exists()


@pytest.mark.parametrize(
    ("quota", "cores"), [("150000 100000", 1.5), ("max 100000", None), ("nonsense", None), (None, None)]
)
def test_a_quota_limits_the_cores(
    quota: str | None, cores: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "CGROUP", tmp_path / "none")
    without = machine.usable_cores()
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota + "\n")
    assert machine.usable_cores() == (without if cores is None else min(without, cores))


def test_more_threads_than_cores_are_a_problem(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert by_name(check_machine(tmp_path, {}))["threads"].status in ("ok", "note")
        torch.set_num_threads(4 * int(machine.usable_cores()) + 4)
        threads = by_name(check_machine(tmp_path, {}))["threads"]
        assert threads.status == "problem"
        assert "OMP_NUM_THREADS=" in threads.advice
    finally:
        torch.set_num_threads(before)


def test_a_limit_of_memory_counts_as_a_full_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text(f"{2**30}\n")
    (tmp_path / "memory.current").write_text(f"{2**29}\n")
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    memory = by_name(check_machine(tmp_path, {})).get("memory")
    if memory is not None:  # /proc/meminfo is Linux'
        assert (memory.status, memory.found) == ("problem", "0.5 GiB available")


def test_a_folder_that_cannot_be_written_is_a_problem() -> None:
    assert by_name(check_machine(Path("/proc/none"), {}))["disk"].status == "problem"
