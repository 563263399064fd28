"""``sr watch`` judges logs and keeps its contract."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from sr_cli.commands.watch import command
from sr_monitor import MonitorError, Run, Verdict, judge

KEYS = {"path", "verdict", "column", "peak_step", "onset_step", "gap", "p_value", "action", "reason"}


def table(path: Path, curve: list[float]) -> str:
    rows = [f"{step},{value},30,16" for step, value in enumerate(curve)]
    path.write_text("step,heldout_pass1,tasks,samples_per_task\n" + "\n".join(rows) + "\n")
    return str(path)


def test_json_is_one_object_with_the_fixed_keys(tmp_path: Path) -> None:
    rise = table(tmp_path / "rise.csv", [0.2, 0.4, 0.6, 0.8])
    fall = table(tmp_path / "fall.csv", [0.2, 0.8, 0.8, 0.1])
    result = CliRunner().invoke(command, [rise, fall, "--json"])
    assert result.exit_code == 0
    runs = json.loads(result.stdout)["runs"]
    assert [run["verdict"] for run in runs] == ["healthy", "collapsed"]
    assert all(set(run) >= KEYS for run in runs)


def test_the_view_names_the_verdict_and_the_reason(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [table(tmp_path / "fall.csv", [0.2, 0.8, 0.8, 0.1])])
    assert "COLLAPSED" in result.stdout
    assert "the fall is real" in result.stdout


def test_a_column_map_names_foreign_columns(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("it,acc\n1,0.2\n2,0.5\n3,0.5\n4,0.5\n5,0.5\n6,0.5\n")
    arguments = [str(path), "--column", "step=it", "--column", "heldout_pass1=acc", "--json"]
    result = CliRunner().invoke(command, arguments)
    assert json.loads(result.stdout)["runs"][0]["verdict"] == "healthy"


def test_follow_ends_when_the_run_is_finished(tmp_path: Path) -> None:
    row = {"campaign": 0, "step": 0, "heldout_pass1": 0.5}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "summary.json").write_text(json.dumps({"kept": 0.5, "campaigns": []}))
    result = CliRunner().invoke(command, [str(tmp_path), "--follow"])
    assert result.exit_code == 0
    assert "step 0: insufficient" in result.stdout


def test_follow_outlives_a_log_that_is_being_rewritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "trainer_state.json"
    rows = [{"step": step, "eval_pass1": 0.5} for step in range(3)]
    state.write_text(json.dumps({"log_history": rows}))
    polls = iter(["", json.dumps({"log_history": [*rows, {"step": 3, "eval_pass1": 0.5}]})])

    def wait(_: float) -> None:
        text = next(polls, None)
        if text is None:
            raise KeyboardInterrupt
        state.write_text(text)

    monkeypatch.setattr("time.sleep", wait)
    result = CliRunner().invoke(command, [str(state), "--follow"])
    assert result.exit_code == 0
    assert "step 3:" in result.stdout


@pytest.mark.parametrize("begun", ["", "step,eval_accuracy\n", None])
def test_follow_waits_for_the_first_row(begun: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log.csv"
    if begun is not None:
        log.write_text(begun)
    polls = iter(["step,eval_accuracy\n", "step,eval_accuracy\n1,0.5\n2,0.5\n3,0.5\n"])

    def wait(_: float) -> None:
        text = next(polls, None)
        if text is None:
            raise KeyboardInterrupt
        log.write_text(text)

    monkeypatch.setattr("time.sleep", wait)
    result = CliRunner().invoke(command, [str(log if begun is not None else tmp_path), "--follow"])
    assert result.exit_code == 0
    assert result.stderr.startswith("waiting: ")
    assert "step 3: " in result.stdout


def test_follow_interrupted_before_the_first_row_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", wait)
    result = CliRunner().invoke(command, [str(tmp_path), "--follow"], standalone_mode=False)
    assert isinstance(result.exception, KeyboardInterrupt | click.Abort)


def test_follow_shows_an_evaluation_that_joins_a_step_already_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log.jsonl"
    rows = [{"step": step, "eval_accuracy": 0.5 if step < 3 else 0.1, "tasks": 500} for step in range(5)]
    lines = [json.dumps(row) + "\n" for row in [*rows, {"step": 5, "reward": 0.5}]]
    log.write_text("".join(lines[:3]))
    more = iter([lines[3:], [json.dumps({"step": 5, "eval_accuracy": 0.0}) + "\n"]])

    def wait(_: float) -> None:
        text = next(more, None)
        if text is None:
            raise KeyboardInterrupt
        log.write_text(log.read_text() + "".join(text))

    monkeypatch.setattr("time.sleep", wait)
    result = CliRunner().invoke(command, [str(log), "--follow"])
    assert [line.split(" step ")[1].split(".")[0] for line in result.stdout.splitlines()] == [
        "2: healthy",
        "5: collapsed",
        "5: collapsed",
    ]
    assert "is now 0.0%" in result.stdout.splitlines()[-1]


def test_follow_reads_a_log_that_did_not_change_only_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "log.csv"
    log.write_text("step,eval_accuracy\n1,0.5\n2,0.5\n3,0.5\n")
    waits = iter(range(5))
    reads: list[Path] = []

    def wait(_: float) -> None:
        if next(waits, None) is None:
            raise KeyboardInterrupt

    def judged(run: Run) -> Verdict:
        reads.append(run.path)
        return judge(run)

    monkeypatch.setattr("time.sleep", wait)
    monkeypatch.setattr("sr_cli.commands.watch.judge", judged)
    assert CliRunner().invoke(command, [str(log), "--follow"]).exit_code == 0
    assert reads == [log]


@pytest.mark.parametrize("column", ["step", "=x", "step="])
def test_a_malformed_column_map_is_a_usage_error(tmp_path: Path, column: str) -> None:
    result = CliRunner().invoke(command, [table(tmp_path / "a.csv", [0.1]), "--column", column])
    assert result.exit_code == 2
    assert "OURS=THEIRS" in result.stderr


def test_a_missing_log_is_a_monitor_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [str(tmp_path / "none.csv")])
    assert isinstance(result.exception, MonitorError)


def test_fail_on_exits_with_one_on_the_named_verdicts_only(tmp_path: Path) -> None:
    fall, rise = table(tmp_path / "fall.csv", [0.2, 0.8, 0.8, 0.1]), table(tmp_path / "rise.csv", [0.2, 0.4, 0.6])
    assert CliRunner().invoke(command, [fall, rise, "--fail-on", "collapsed,at_risk", "--json"]).exit_code == 1
    assert CliRunner().invoke(command, [fall, rise, "--fail-on", "at_risk"]).exit_code == 0
    assert CliRunner().invoke(command, [rise, "--fail-on", "collapsed"]).exit_code == 0
    wrong = CliRunner().invoke(command, [rise, "--fail-on", "fallen"])
    assert wrong.exit_code == 2
    assert "healthy, at_risk, collapsed, insufficient" in wrong.stderr


def test_one_unreadable_log_is_named_and_the_others_are_judged(tmp_path: Path) -> None:
    rise, bad = table(tmp_path / "rise.csv", [0.2, 0.4, 0.6]), tmp_path / "absent.csv"
    result = CliRunner().invoke(command, [str(bad), rise, "--json"])
    assert result.exit_code == 1
    assert [run["verdict"] for run in json.loads(result.stdout)["runs"]] == ["healthy"]
    assert str(bad) in result.stderr


def test_tasks_and_samples_give_the_noise(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("step,eval_acc\n1,20\n2,60\n3,30\n")
    result = CliRunner().invoke(command, [str(path), "--tasks", "200", "--samples", "4", "--json"])
    (run,) = json.loads(result.stdout)["runs"]
    assert (run["verdict"], run["column"]) == ("collapsed", "eval_acc")
    assert run["gap"] == pytest.approx(0.3)


def test_any_column_can_be_named_as_held_out(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("step,loss,nll of books\n" + "".join(f"{s},0.1,{3 - s / 10}\n" for s in range(8)))
    result = CliRunner().invoke(command, [str(path), "--column", "heldout=nll of books", "--json"])
    (run,) = json.loads(result.stdout)["runs"]
    assert (run["verdict"], run["column"], run["peak_step"]) == ("healthy", "nll of books", 7)
