"""The real command on two processes under ``accelerate launch``: one killed, the run resumed by a single process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.nightly  # each launch imports torch three times

SETTINGS = {
    "campaign.steps": "4",
    "guard.name": "collapse",
    "evaluate.audit_samples": "2",
    "evaluate.samples": "4",
    "policy.device": "cpu",
    "sampling.group_size": "4",
    "sampling.prompts": "4",
    "tasks.audit": "4",
    "tasks.heldout": "4",
    "tasks.train": "6",
}


def launched(folder: Path, *more: str) -> subprocess.Popen[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    launch = ["--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--main_process_port", port]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "-m", "sr_cli", "run"]
    settings = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    return subprocess.Popen(
        [sys.executable, "-m", "accelerate.commands.launch", *launch, *settings, *more, "--out", str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows(folder: Path) -> list[dict[str, Any]]:
    path = folder / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().split("\n")[:-1]] if path.exists() else []


def test_a_launched_run_loses_a_process_ends_at_once_and_is_resumed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = launched(folder, "--set", "tracking.name=tensorboard")
    deadline = time.monotonic() + 240
    while len(rows(folder)) < 3:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    ranks = {p.environ().get("RANK"): p for p in psutil.Process(process.pid).children(recursive=True)}
    ranks["1"].send_signal(signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    said = [line for line in err.splitlines() if line.startswith("sr: ")]
    assert any("has lost the others" in line or "state saved" in line for line in said), err
    assert json.loads((folder / "run.json").read_text())["processes"] == 2
    assert len(rows(folder)) < 5
    command = [sys.executable, "-m", "sr_cli", "resume", str(folder), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["campaigns"][0]["steps"] == 4
    assert "sr: this run was started on 2 processes and goes on with 1" in done.stderr
    assert [row["step"] for row in rows(folder)] == [0, 1, 2, 3, 4]
    assert any(folder.rglob("*tfevents*"))


def test_bad_input_is_said_once_by_a_launched_run(tmp_path: Path) -> None:
    process = launched(tmp_path / "run", "--set", "optim.lr=-1")
    _, err = process.communicate(timeout=240)
    assert [line for line in err.splitlines() if line.startswith("sr: ")] == ["sr: optim.lr must be above 0, got -1"]
    assert not (tmp_path / "run").exists()
