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


def scored(folder: Path, step: int, scores: dict[str, list[float]]) -> None:
    folder.mkdir(exist_ok=True)
    rows = [{"input": text, "output": "", "score": s, "step": step} for text, each in scores.items() for s in each]
    (folder / f"{step}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")


def test_partial_credit_of_a_verl_reward_does_not_count_as_solved(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for step, rate in enumerate([0.5, 0.65, 0.65, 0.65, 0.0, 0.0]):
        graded = {f"task {t}": np.where(rng.random(8) < rate, 1.0, 0.1).tolist() for t in range(40)}
        scored(tmp_path / "val", step, graded)
        (tmp_path / "ckpt" / f"global_step_{step}").mkdir(parents=True)
    arguments = (str(tmp_path / "val"), "--checkpoints", str(tmp_path / "ckpt"))
    done = run("verl_guard.py", *arguments)
    assert done.returncode == 3, done.stderr
    assert "those of at least 1 pass" in done.stderr
    assert run("verl_guard.py", *arguments, "--solved", "0.1").stdout.startswith("no alarm")


def test_a_prompt_that_a_verl_validation_holds_twice_is_two_tasks(tmp_path: Path) -> None:
    for step in range(3):
        scored(tmp_path / "val", step, {"once": [1.0, 0.0], "twice": [1.0, 1.0, 0.0, 0.0]})
    done = run("verl_guard.py", str(tmp_path / "val"), "--checkpoints", str(tmp_path))
    assert (done.returncode, done.stdout.split(";")[0]) == (0, "no alarm")
    scored(tmp_path / "val", 3, {"once": [1.0, 0.0], "twice": [1.0, 1.0, 0.0]})
    broken = run("verl_guard.py", str(tmp_path / "val"), "--checkpoints", str(tmp_path))
    assert broken.returncode == 1
    assert "is it complete?" in broken.stderr


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


def test_a_verl_run_that_went_on_after_a_fall_is_not_judged_by_the_validations_of_that_fall(tmp_path: Path) -> None:
    folder = validations(tmp_path / "val", [0.3, 0.5, 0.7, 0.8, 0.8, 0.8, 0.2, 0.1])
    (tmp_path / "ckpt" / "global_step_2").mkdir(parents=True)
    fell = run("verl_guard.py", str(folder), "--checkpoints", str(tmp_path / "ckpt"))
    (line,) = fell.stdout.splitlines()
    settings = dict(setting.split("=", 1) for setting in line.split())
    assert settings["trainer.resume_from_path"] == str(tmp_path / "ckpt" / "global_step_2")
    assert "0.5 times" in fell.stderr
    anew = Path(settings["trainer.validation_data_dir"])
    assert not anew.exists()
    validations(anew, [0.7, 0.8, 0.8])
    assert run("verl_guard.py", str(anew), "--checkpoints", str(tmp_path / "ckpt")).returncode == 0


def test_a_verl_run_that_fell_before_its_first_checkpoint_is_ended_and_starts_anew(tmp_path: Path) -> None:
    folder = validations(tmp_path / "val", [0.8, 0.8, 0.1, 0.1])
    (tmp_path / "ckpt" / "global_step_3").mkdir(parents=True)
    done = run("verl_guard.py", str(folder), "--checkpoints", str(tmp_path / "ckpt"))
    assert done.returncode == 3
    assert done.stdout.strip().endswith("trainer.resume_mode=disable")
    assert "lower trainer.save_freq" in done.stderr


def test_a_healthy_verl_run_goes_on(tmp_path: Path) -> None:
    done = run(
        "verl_guard.py", str(validations(tmp_path / "val", [0.3, 0.5, 0.7, 0.8])), "--checkpoints", str(tmp_path)
    )
    assert (done.returncode, done.stdout.split(";")[0]) == (0, "no alarm")
