"""``sr eval`` and ``sr tasks select`` on a shipped policy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from sr_cli.commands.eval import command
from sr_cli.commands.tasks import command as tasks_command
from sr_core.errors import ConfigError, PolicyError
from sr_reward import IsolationError, TaskError, load_tasks


def test_a_policy_is_evaluated_goes_on_and_its_tasks_are_selected(tmp_path: Path) -> None:
    out = tmp_path / "e" / "samples.jsonl"
    asked = ["--policy", "pocket-rich", "--tasks", "testbed", "--samples", "2", "--out", str(out), "--json"]
    first = CliRunner().invoke(command, [*asked, "--limit", "3"], catch_exceptions=False)
    made = json.loads(first.stdout)
    assert (made["policy"], made["tasks"], made["samples"], made["skipped"]) == ("pocket-rich", 3, 6, 0)
    assert {"pass@1", "avg@2", "outcomes", "isolation", "programs_per_s"} <= set(made)
    rows = out.read_text()
    second = json.loads(CliRunner().invoke(command, [*asked, "--limit", "4"], catch_exceptions=False).stdout)
    assert second["samples"] == 8
    assert out.read_text().startswith(rows)
    about = json.loads((tmp_path / "e" / "metadata.json").read_text())
    assert about["sampling"]["max_new_tokens"] == 48

    few = tmp_path / "few.jsonl"
    tasks = tmp_path / "tasks.jsonl"
    native = {"kind": "calls", "cases": [{"args": [1], "expected": 3}]}
    prompt = 'def add_two(x):\n    """Return x plus 2."""\n'
    row = {"task_id": "t", "prompt": prompt, "entry_point": "add_two", "tests": native}
    tasks.write_text(json.dumps(row) + "\n")
    asked = ["select", "--policy", "pocket-rich", "--tasks", str(tasks), "--samples", "2", "--low", "0", "--high", "1"]
    said = CliRunner().invoke(
        tasks_command, [*asked, "--set", "sampling.max_new_tokens=24", "--out", str(few)], catch_exceptions=False
    )
    assert "1 of 1 tasks chosen" in said.stdout
    assert load_tasks(few)[0].task_id == "t"


def test_a_k_beyond_the_samples_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    asked = ["--policy", "nowhere", "--tasks", "testbed", "--samples", "2", "--k", "4"]
    with pytest.raises(TaskError, match="pass@4"):
        CliRunner().invoke(command, asked, catch_exceptions=False)


FEW = ["--policy", "pocket-rich", "--tasks", "testbed", "--limit", "2"]


def test_greedy_draws_one_completion_at_temperature_0(tmp_path: Path) -> None:
    asked = [*FEW, "--greedy", "--json", "--out"]
    drawn = []
    for seed in ("0", "1"):
        made = CliRunner().invoke(command, [*asked, str(tmp_path / seed), "--seed", seed], catch_exceptions=False)
        assert json.loads(made.stdout)["samples"] == 2
        assert json.loads((tmp_path / seed / "metadata.json").read_text())["sampling"]["temperature"] == 0
        drawn.append((tmp_path / seed / "samples.jsonl").read_text())
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize(
    "more", [["--samples", "4"], ["--temperature", "0.5"], ["--set", "sampling.temperature=0.5"]], ids=lambda m: m[-1]
)
def test_greedy_and_what_contradicts_it_is_refused(more: list[str]) -> None:
    found = CliRunner().invoke(command, [*FEW, "--greedy", *more])
    assert found.exit_code == 2
    assert "leave out" in found.output


@pytest.mark.parametrize(
    ("setting", "rule"),
    [
        ("guard.name=collapse", r"\[guard\] is none of an evaluation"),
        ("gaurd.name=collapse", r"\[gaurd\] is none of an evaluation"),
        ("sampling.group_size=4", "give --samples"),
        ("sandbox.require_isolation=nonsense", "one of"),
        ("sampling.max_new_token=4", "did you mean 'max_new_tokens'"),
    ],
)
def test_a_setting_that_would_change_nothing_is_refused(setting: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=rule):
        CliRunner().invoke(command, [*FEW, "--set", setting], catch_exceptions=False)


def test_the_sandbox_is_the_one_asked_for() -> None:
    asked = [*FEW, "--samples", "1", "--json", "--set", "sandbox.isolation=limits"]
    assert json.loads(CliRunner().invoke(command, asked, catch_exceptions=False).stdout)["isolation"] == "limits"
    with pytest.raises(IsolationError):
        CliRunner().invoke(command, [*asked, "--set", "sandbox.require_isolation=landlock"], catch_exceptions=False)


def test_room_is_checked_for_all_tasks_before_any_is_asked(tmp_path: Path) -> None:
    tests = {"kind": "calls", "cases": [{"args": [1], "expected": 3}]}
    rows = [
        {"task_id": str(i), "prompt": f'def f(x):\n    """{text}"""\n', "entry_point": "f", "tests": tests}
        for i, text in enumerate(["Return x plus 2.", "Return x plus 2. " * 100])
    ]
    (tmp_path / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = ["--policy", "pocket-rich", "--tasks", str(tmp_path / "tasks.jsonl"), "--samples", "1"]
    short = ["--set", "sampling.batch_size=1", "--set", "sampling.max_new_tokens=8", "--out", str(tmp_path / "e")]
    with pytest.raises(PolicyError, match="task 1 has"):
        CliRunner().invoke(command, [*asked, *short], catch_exceptions=False)
    assert not (tmp_path / "e" / "samples.jsonl").read_text()
