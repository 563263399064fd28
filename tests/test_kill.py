"""``kill -9`` of the real command at moments that hurt, ``sr resume``, and the same run as if nothing had happened."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SMALL = {
    "campaign.checkpoint_every": "1",
    "campaign.count": "2",
    "campaign.steps": "4",
    "guard.name": "collapse",
    "evaluate.audit_samples": "2",
    "evaluate.samples": "4",
    "sampling.group_size": "4",
    "sampling.prompts": "2",
    "tasks.audit": "4",
    "tasks.heldout": "4",
    "tasks.train": "6",
}
SETTINGS = [part for key, value in SMALL.items() for part in ("--set", f"{key}={value}")]
# one thread: the runs share the machine with each other, and operations this small are slower on two
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def sr(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "sr_cli", *arguments],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell that puts the tests in the background has them ignore SIGINT, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "metrics.jsonl").read_text().split("\n")[:-1]  # a kill may leave half a row behind
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def weights(folder: Path) -> str:
    return hashlib.sha256((folder / "checkpoints" / "kept" / "model.safetensors").read_bytes()).hexdigest()


def written(folder: Path, count: int) -> Callable[[], bool]:
    path = folder / "metrics.jsonl"
    return lambda: path.exists() and path.read_bytes().count(b"\n") >= count


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.0005)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    finish(sr("run", *SETTINGS, "--seed", "3", "--out", str(folder)))
    return folder


def moments(folder: Path) -> dict[str, Callable[[], bool]]:
    """When a kill hurts, in the order in which a run comes by."""
    checkpoints = folder / "checkpoints"
    return {
        "while the first checkpoint is written": lambda: any(checkpoints.glob("*.tmp")),
        "after a row, before its checkpoint": written(folder, 3),
        "while a later checkpoint is written": lambda: written(folder, 5)() and any(checkpoints.glob("*.tmp")),
        "during the last rollout": written(folder, 8),
    }


@pytest.mark.parametrize(
    "chosen",
    [
        ["while a later checkpoint is written"],
        # each of these starts the command anew, for seconds
        pytest.param(list(moments(Path())), marks=pytest.mark.nightly, id="all of them, one after another"),
    ],
)
def test_kill_9_and_resume_equals_the_uninterrupted_run(whole: Path, tmp_path: Path, chosen: list[str]) -> None:
    folder = tmp_path / "run"
    process = sr("run", *SETTINGS, "--seed", "3", "--out", str(folder))
    for moment in chosen:
        wait_for(moments(folder)[moment], process)
        process.kill()
        process.communicate()
        process = sr("resume", str(folder))
    finish(process)
    assert rows(folder) == rows(whole)
    assert weights(folder) == weights(whole)
    summaries = [json.loads((f / "summary.json").read_text()) for f in (folder, whole)]
    assert summaries[0] == summaries[1]


def test_a_checkpoint_short_of_one_byte_is_passed_over_and_said_so(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = sr("run", *SETTINGS, "--seed", "3", "--out", str(folder))
    wait_for(written(folder, 4), process)
    process.kill()
    process.communicate()
    newest = max(path for path in (folder / "checkpoints").glob("c*-step-*") if path.suffix != ".tmp")
    weights_file = newest / "weights.safetensors"
    weights_file.write_bytes(weights_file.read_bytes()[:-1])
    process = sr("resume", str(folder))
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    said = [line for line in err.splitlines() if line.startswith("sr: checkpoint")]
    assert len(said) == 1
    assert f"{newest.name} is damaged (weights.safetensors is not what its manifest says)" in said[0]
    assert rows(folder) == rows(whole)
    assert weights(folder) == weights(whole)


@pytest.mark.nightly  # takes minutes
@pytest.mark.timeout(3600)
def test_fifty_kills_at_random_moments_change_nothing(whole: Path, tmp_path: Path) -> None:
    chance = random.Random(7)
    began = time.monotonic()
    finish(sr("run", *SETTINGS, "--seed", "3", "--out", str(tmp_path / "timed")))
    span = time.monotonic() - began
    kills = ended = number = 0
    states: list[int] = []  # rows on disk at each kill: where in the chain it came
    while kills < 50 or ended == 0:
        folder = tmp_path / f"run-{number}"
        started = (folder / "run.json").exists()
        process = sr("resume", str(folder)) if started else sr("run", *SETTINGS, "--seed", "3", "--out", str(folder))
        try:
            process.wait(timeout=chance.uniform(0, span) if kills < 50 else 300)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            states.append(len(rows(folder)) if (folder / "metrics.jsonl").exists() else 0)
            continue
        finish(process)
        assert rows(folder) == rows(whole)
        assert weights(folder) == weights(whole)
        summaries = [json.loads((f / "summary.json").read_text()) for f in (folder, whole)]
        assert summaries[0] == summaries[1]
        ended, number = ended + 1, number + 1
    print(f"{kills} kills, {ended} chains ended bit-identical; rows on disk at the kills: {sorted(states)}")
    assert len(set(states)) > 5


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.nightly)])
def test_an_interrupted_run_says_so_exits_130_and_resumes(whole: Path, tmp_path: Path, number: int) -> None:
    folder = tmp_path / "run"
    process = sr("run", *SETTINGS, "--seed", "3", "--out", str(folder))
    wait_for(written(folder, 2), process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"sr resume {folder}" in err
    assert "Traceback" not in err
    finish(sr("resume", str(folder)))
    assert rows(folder) == rows(whole)
    assert weights(folder) == weights(whole)


def test_resuming_a_complete_run_changes_nothing(whole: Path) -> None:
    before = (whole / "metrics.jsonl").read_bytes()
    assert "kept" in finish(sr("resume", str(whole)))
    assert (whole / "metrics.jsonl").read_bytes() == before
