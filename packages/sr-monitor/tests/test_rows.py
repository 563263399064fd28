"""Rows as trainers leave them: resumed, in any order, without a step, of several splits, not finite."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sr_monitor import MonitorError, Run, judge, read_runs
from sr_monitor.logs.records import Size, clean

RISE = {0: 0.2, 10: 0.35, 20: 0.45, 30: 0.5, 40: 0.52, 50: 0.53, 60: 0.52}
FALL = {**RISE, 30: 0.35, 40: 0.15, 50: 0.05, 60: 0.0}


def rows_of(curve: dict[int, float], name: str = "eval_accuracy") -> list[dict[str, Any]]:
    return [{"step": step, name: value} for step, value in curve.items()]


def run_of(folder: Path, rows: list[dict[str, Any]], columns: dict[str, str] | None = None) -> Run:
    path = folder / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run,) = read_runs(path, columns=columns, size=Size(tasks=500, samples=1))
    return run


def held_out(run: Run) -> dict[int, float | None]:
    return {record.step: record.heldout for record in run.records}


@pytest.mark.parametrize("at", [0, 20, 50])
def test_what_an_attempt_logged_beyond_the_step_it_was_resumed_at_does_not_count(at: int, tmp_path: Path) -> None:
    resumed = {step: value for step, value in RISE.items() if at <= step <= 50}
    run = run_of(tmp_path, [*rows_of(FALL), *rows_of(resumed)])
    assert held_out(run) == {step: value for step, value in FALL.items() if step < at} | resumed
    assert "before the log was resumed" in run.notes[0]
    assert judge(run).verdict == "healthy"


def test_training_rows_alone_show_the_resume(tmp_path: Path) -> None:
    trained = [
        {"step": step, "reward": 0.5, **({"eval_accuracy": FALL[step]} if step in FALL else {})} for step in range(61)
    ]
    again = [{"step": step, "reward": 0.5} for step in range(20, 25)]
    assert [step for step, value in held_out(run_of(tmp_path, trained + again)).items() if value is not None] == [
        0,
        10,
        20,
    ]


def test_evaluations_that_come_late_are_no_resume(tmp_path: Path) -> None:
    trained = [{"step": step, "reward": 0.5} for step in range(61)]
    late = [{"step": step, "eval_accuracy": value} for step, value in FALL.items()]
    assert len(run_of(tmp_path, trained + late).records) == 61


table = st.dictionaries(st.integers(0, 200), st.floats(0, 1), min_size=1, max_size=30)


@given(table, st.data())
@settings(max_examples=50, deadline=None)
def test_a_resumed_log_equals_the_log_of_its_last_attempts(curve: dict[int, float], data: st.DataObject) -> None:
    """Rows of every step: an attempt that ends anywhere, and another from any of its steps on."""
    steps = sorted(curve)
    end = data.draw(st.integers(1, len(steps)))
    at = data.draw(st.integers(0, end - 1))
    last = data.draw(st.integers(at + 1, len(steps)))
    first = [{"step": step, "heldout_pass1": 0.25} for step in steps[:end]]
    second = [{"step": step, "heldout_pass1": curve[step]} for step in steps[at:last]]
    cleaned = clean(first + second, {}, Size())
    expected = dict.fromkeys(steps[:at], 0.25) | {step: curve[step] for step in steps[at:last]}
    assert {record.step: record.heldout for record in cleaned.records} == expected


def test_a_row_without_a_step_belongs_to_the_one_before_it(tmp_path: Path) -> None:
    """As a W&B history has them where a callback logs without the trainer's step."""
    rows: list[dict[str, Any]] = []
    for step in range(61):
        rows.append({"_step": len(rows), "train/global_step": step, "train/reward": 0.5})
        if step in FALL:
            rows.append({"_step": len(rows), "eval/accuracy": FALL[step]})
    run = run_of(tmp_path, rows)
    assert {step: value for step, value in held_out(run).items() if value is not None} == FALL


def test_a_row_that_says_something_else_for_a_step_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("step,eval_accuracy\n1,0.5\n2,0.75\nmean,0.625\n")
    (run,) = read_runs(path)
    assert held_out(run) == {1: 0.5, 2: 0.75}
    assert run.notes == ("1 row(s) without a step were left out",)


@pytest.mark.parametrize("column", ["split", "phase", "mode"])
def test_rows_of_training_and_of_evaluation_are_told_apart_by_their_column(column: str, tmp_path: Path) -> None:
    rows = [
        {"step": step, column: split, "accuracy": value if split == "eval" else 0.9}
        for step, value in FALL.items()
        for split in ("eval", "train")
    ]
    run = run_of(tmp_path, rows)
    assert held_out(run) == FALL
    assert {record.signals["train_reward"] for record in run.records} == {0.9}
    with pytest.raises(MonitorError, match="it has eval/accuracy"):
        run_of(tmp_path, rows, {"heldout": "accuracy"})


def test_objects_inside_a_row_are_columns(tmp_path: Path) -> None:
    rows = [{"step": step, "eval": {"accuracy": value, "by": {"task": 1}}} for step, value in FALL.items()]
    assert held_out(run_of(tmp_path, rows)) == FALL


@pytest.mark.parametrize("broken", [math.nan, math.inf, "NaN", 1e300, 10**400])
def test_evaluations_that_stop_being_finite_put_the_run_at_risk(broken: Any, tmp_path: Path) -> None:
    losses = {step: 3 - value for step, value in RISE.items()}
    run = run_of(tmp_path, rows_of(losses | {70: broken, 80: broken}, "eval_loss"))
    verdict = judge(run)
    assert (verdict.verdict, verdict.action) == ("at_risk", "roll_back")
    assert "eval_loss is not finite at step 80" in verdict.reason


def test_a_nan_that_stands_for_no_evaluation_does_not(tmp_path: Path) -> None:
    rows = [{"step": step, "eval_accuracy": RISE.get(step, math.nan)} for step in range(65)]
    assert judge(run_of(tmp_path, rows)).verdict == "healthy"
    assert judge(run_of(tmp_path, rows[:5])).verdict == "insufficient"


@pytest.mark.parametrize("value", [math.nan, math.inf, -1, 0, "many", None, [1], 1e300])
@pytest.mark.parametrize("name", ["tasks", "samples_per_task", "heldout_samples", "heldout_passes"])
def test_a_size_that_is_none_is_not_used(name: str, value: Any, tmp_path: Path) -> None:
    known = {"tasks": 100, "samples_per_task": 1, "heldout_passes": [1, 0], "heldout_samples": 1}
    rows = [{"step": step, "heldout_pass1": rate, **known, name: value} for step, rate in FALL.items()]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (run,) = read_runs(path)
    assert judge(run).verdict in ("collapsed", "healthy", "insufficient")
    if name == "heldout_passes" and value != [1]:
        assert held_out(run) == FALL
        assert all(record.passes is None for record in run.records)


@pytest.mark.parametrize(
    ("text", "value"), [("45.5%", 0.455), (" 0.5% ", 0.005), ("1,250", 1250), ("-1,250.5", -1250.5)]
)
def test_numbers_as_people_write_them(text: str, value: float) -> None:
    (record,) = clean([{"step": 1, "heldout_pass1": 0.5, "loss": text}], {}, Size()).records
    assert record.signals["loss"] == pytest.approx(value)
