"""What is said where only training metrics were logged: the reward's course, the signs, what to do next."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sr_monitor import judge, read_runs
from sr_monitor.analysis.training import course_of

STEPS = 160


def reward_of(step: int) -> float:
    """Rises until step 60, then is lost."""
    return min(step / 60, 1.0) if step < 80 else max(0.0, 1 - (step - 80) / 30)


def log(folder: Path, rows: list[dict[str, float]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "trainer_state.json"
    path.write_text(json.dumps({"global_step": len(rows), "log_history": rows}))
    return path


def collapsing(folder: Path, **more: float) -> Path:
    rng = np.random.default_rng(0)
    rows = []
    for step in range(1, STEPS + 1):
        reward = float(np.clip(reward_of(step) + 0.1 * rng.standard_normal(), 0, 1))
        alive = float(reward_of(step) > 0.2 or step < 60)
        row = {"step": step, "reward": reward, "loss": 0.0, "entropy": 1.0 * alive + 0.01 * rng.random()}
        rows.append({**row, "frac_reward_zero_std": 1 - 0.8 * alive, "grad_norm": 0.5 + 0.1 * rng.random(), **more})
    return log(folder, rows)


def test_the_reward_s_peak_and_fall_are_told_and_the_verdict_stays_insufficient(tmp_path: Path) -> None:
    (run,) = read_runs(collapsing(tmp_path))
    verdict = judge(run)
    assert (verdict.verdict, verdict.column, verdict.action) == ("insufficient", None, "evaluate")
    assert "larger than batch noise" in verdict.reason
    course = course_of([r.step for r in run.records], [r.signals["train_reward"] for r in run.records])
    assert course is not None
    assert 55 <= course.peak_step <= 85
    assert course.now < 0.15 < 0.8 < course.peak


def test_the_signals_that_moved_are_named_and_those_that_did_not_are_not(tmp_path: Path) -> None:
    (run,) = read_runs(collapsing(tmp_path))
    reason = judge(run).reason
    assert "equal-reward groups 0.2 → 1" in reason
    assert "entropy 1" in reason
    assert "gradient norm" not in reason


def test_the_checkpoints_near_the_peak_and_the_last_are_named(tmp_path: Path) -> None:
    path = collapsing(tmp_path)
    for step in (40, 80, 120, 160):
        (tmp_path / f"checkpoint-{step}").mkdir()
    (run,) = read_runs(path)
    assert [step for step, _ in run.checkpoints] == [40, 80, 120, 160]
    reason = judge(run).reason
    assert "checkpoint-80 (step 80) and" in reason
    assert "checkpoint-160 (step 160)" in reason
    assert "sr eval --policy" in reason
    assert "checkpoint-120" not in reason


@pytest.mark.parametrize(
    ("name", "write", "setting"),
    [
        ("trl", lambda folder: collapsing(folder), "eval_strategy"),
        (
            "verl",
            lambda folder: _verl(folder / "train.log"),
            "trainer.test_freq",
        ),
    ],
)
def test_the_setting_that_logs_a_held_out_score_is_that_of_the_trainer(name, write, setting, tmp_path) -> None:  # type: ignore[no-untyped-def]
    (run,) = read_runs(write(tmp_path))
    assert setting in judge(run).reason


def _verl(path: Path) -> Path:
    lines = (
        f"(TaskRunner pid=1) step:{s} - critic/score/mean:{reward_of(s):.3f} - actor/kl_loss:0.1" for s in range(50)
    )
    path.write_text("\n".join(lines) + "\n")
    return path


def test_verls_checkpoints_come_with_verls_command(tmp_path: Path) -> None:
    (tmp_path / "ckpt" / "global_step_20").mkdir(parents=True)
    (run,) = read_runs(_verl(tmp_path / "train.log"))
    assert f"trainer.resume_from_path={tmp_path / 'ckpt' / 'global_step_20'}" in judge(run).reason


@given(st.integers(0, 10_000), st.floats(-5, 5), st.floats(0.01, 3))
@settings(max_examples=8, deadline=None)
def test_a_reward_without_trend_seldom_counts_as_fallen(seed: int, level: float, noise: float) -> None:
    rng = np.random.default_rng(seed)
    fallen = 0
    for _ in range(12):
        rewards = (level + noise * rng.standard_normal(120)).tolist()
        course = course_of(range(120), rewards)
        assert course is not None
        fallen += course.fell
    assert fallen <= 4


def test_few_rewards_have_no_course() -> None:
    assert course_of(range(5), [0.5] * 5) is None


def test_no_reward_at_all_is_no_claim_about_one(tmp_path: Path) -> None:
    (run,) = read_runs(log(tmp_path, [{"step": s, "loss": 0.5} for s in range(30)]))
    verdict = judge(run)
    assert verdict.verdict == "insufficient"
    assert "reward" not in verdict.reason.split("To log")[0]


def test_candidates_come_with_the_ready_command(tmp_path: Path) -> None:
    path = tmp_path / "my log.csv"
    path.write_text("step,loss,bench score\n" + "".join(f"{s},0.1,{s / 10 if s % 2 else ''}\n" for s in range(8)))
    (run,) = read_runs(path)
    reason = judge(run).reason
    assert f"sr watch '{path}' --column 'heldout=bench score'" in reason
    assert "no held-out evaluation" not in reason


def test_there_is_no_claim_of_no_evaluation_while_a_column_is_unknown(tmp_path: Path) -> None:
    (run,) = read_runs(log(tmp_path, [{"step": s, "loss": 0.5, "zeal": 0.1 * s} for s in range(30)]))
    reason = judge(run).reason
    assert "If one of zeal is one" in reason
    assert "holds no held-out evaluation" not in reason


def test_checkpoints_of_another_run_are_not_named(tmp_path: Path) -> None:
    (tmp_path / "other" / "checkpoint-9000").mkdir(parents=True)
    (tmp_path / "this" / "checkpoint-40" / "global_step40").mkdir(parents=True)
    (run,) = read_runs(collapsing(tmp_path))
    assert run.checkpoints == ((40, tmp_path / "this" / "checkpoint-40"),)
