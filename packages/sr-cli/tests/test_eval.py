"""``sr eval`` and ``sr tasks select`` on a shipped policy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from sr_cli.commands.eval import command
from sr_cli.commands.tasks import command as tasks_command
from sr_reward import TaskError, load_tasks


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
