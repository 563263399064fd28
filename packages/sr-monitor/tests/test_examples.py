"""The examples that need numpy only are run as a user runs them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, EXAMPLES / name, *arguments], capture_output=True, text=True, timeout=60)


def validations(folder: Path, rates: list[float]) -> Path:
    """A file per validation as verl writes them: 30 prompts, 16 samples of each."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for step, rate in enumerate(rates):
        samples = [(f"task {task}", float(rng.random() < rate)) for _ in range(16) for task in range(30)]
        rows = [{"input": text, "output": "", "score": score, "step": step} for text, score in samples]
        (folder / f"{step}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return folder


def test_a_loop_written_by_hand_loses_its_peak_alone_and_keeps_it_with_the_guard() -> None:
    last = run("hand_written_loop.py").stdout.splitlines()[-1]
    free, kept = (float(word.rstrip("%,")) for word in last.split() if "%" in word)
    assert free < 5
    assert kept > 70


def test_a_verl_run_that_fell_is_ended_and_told_where_to_resume(tmp_path: Path) -> None:
    folder = validations(tmp_path / "val", [0.3, 0.5, 0.7, 0.8, 0.8, 0.8, 0.2, 0.1])
    for step in (0, 2, 4, 6):
        (tmp_path / "ckpt" / f"global_step_{step}").mkdir(parents=True)
    done = run("verl_guard.py", str(folder), "--checkpoints", str(tmp_path / "ckpt"))
    assert done.returncode == 3
    kept = done.stdout.strip().rsplit("_", 1)[1]
    assert kept in ("2", "4")
    assert "resume_from_path" in done.stdout


def test_a_healthy_verl_run_is_let_go_on(tmp_path: Path) -> None:
    done = run(
        "verl_guard.py", str(validations(tmp_path / "val", [0.3, 0.5, 0.7, 0.8])), "--checkpoints", str(tmp_path)
    )
    assert (done.returncode, done.stdout.split(";")[0]) == (0, "no alarm")
