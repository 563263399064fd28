"""The GPU check on a CPU: its checks as far as they go, and what it makes of those that fail, hang or say nothing."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
sys.path.append(str(ROOT / "tools"))

import gpu_check  # noqa: E402
import gpu_checks  # noqa: E402

SLOW = ("device", "nccl", "engines")  # a product of 2048, two more processes, other engines


def test_every_check_has_its_name() -> None:
    assert set(gpu_checks.CHECKS) == set(gpu_check.CHECKS)


@pytest.mark.filterwarnings("ignore:flex_attention called without")  # it cannot be compiled for gradients on a CPU
@pytest.mark.parametrize("name", [name for name in gpu_check.CHECKS if name not in SLOW])
def test_a_check_goes_as_far_as_a_cpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_checks.cuda_graphs, "record", gpu_checks.cuda_graphs.record)  # restored afterwards
    monkeypatch.setattr(gpu_checks.flex, "_attention", gpu_checks.flex._attention)
    found = gpu_check.run_one(name, "cpu")
    wanted = "skipped" if name.startswith("step_gpu") or name == "tests" else "ok"
    assert found["result"] == wanted, found


@pytest.mark.nightly
@pytest.mark.parametrize("name", SLOW)
def test_slow_checks_go_as_far(name: str) -> None:
    assert gpu_check.run_one(name, "cpu")["result"] in ("ok", "skipped")


def test_replayed_samples_that_differ_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_checks.cuda_graphs, "record", gpu_checks.cuda_graphs.record)
    step = gpu_checks.cuda_graphs.StaticKVCache._step
    monkeypatch.setattr(
        gpu_checks.cuda_graphs.StaticKVCache, "_step", lambda *given: torch.roll(step(*given), 1, dims=1)
    )
    found = gpu_check.run_one("cuda_graphs", "cpu")
    assert found["result"] == "failed"
    assert "float32 completions differ" in found["error"]


def printed(code: str, limit_s: float = 60) -> dict[str, object]:
    return gpu_check.outcome_of([sys.executable, "-S", "-c", code], limit_s)


def test_a_process_that_ends_without_a_result_has_failed() -> None:
    assert printed('print(\'{"result": "ok"}\')')["result"] == "ok"
    crashed = printed("raise SystemError('the device is lost')")
    assert (crashed["result"], crashed["error"]) == ("failed", "exit code 1: SystemError: the device is lost")
    assert printed("import os; os._exit(3)")["error"] == "exit code 3: nothing was printed"


def test_a_process_that_hangs_is_ended_with_those_it_started() -> None:
    child = "import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', 'import time; time.sleep(600)'])"
    began = time.monotonic()
    assert printed(child, 1)["result"] == "out of time"
    assert time.monotonic() - began < 60
    assert printed("", 0) == {"result": "out of time"}


def test_results_are_written_after_each_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, before = tmp_path / "result.json", []
    results = iter([{"result": "failed", "error": "no"}, {"result": "ok"}])

    def outcome(command: list[str], limit_s: float) -> dict[str, object]:
        assert 0 < limit_s <= 24
        before.append(list(json.loads(out.read_text())["checks"]) if out.exists() else [])
        return next(results)

    monkeypatch.setattr(gpu_check, "outcome_of", outcome)
    wanted = ["--check", "device", "--check", "nccl", "--minutes", "1", "--device", "cpu", "--out", str(out)]
    assert gpu_check.main(wanted) == 1
    assert before == [[], ["device"]]
    assert json.loads(out.read_text())["checks"]["nccl"] == {"result": "ok"}
