"""``sr warm-start --set``: what it takes reaches the prompts, what it does not take is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from sr_cli.commands.warm_start import command
from sr_core.errors import ConfigError
from sr_reward import FormatError

PROMPT = 'def add_two(x):\n    """Return x plus 2."""\n'
ROW = {
    "task_id": "t",
    "prompt": PROMPT,
    "entry_point": "add_two",
    "tests": {"kind": "calls", "cases": [{"args": [1], "expected": 3}]},
    "reference": PROMPT + "    return x + 2\n",
}


def start(out: Path, *settings: str) -> str:
    tasks = out.with_name("tasks.jsonl")
    tasks.write_text(json.dumps(ROW) + "\n")
    given = [part for setting in settings for part in ("--set", setting)]
    asked = ["--policy", "pocket-fragile", "--tasks", str(tasks), "--examples", "1", *given, "--out", str(out)]
    return CliRunner().invoke(command, asked, catch_exceptions=False).stdout


def test_settings_of_the_policy_reach_the_prompts_and_what_is_said_next(tmp_path: Path) -> None:
    template = tmp_path / "own.toml"
    template.write_text('text = "# Solve this.\\n{prompt}"\n')
    said = start(tmp_path / "plain") + start(tmp_path / "own", f"policy.template={template}", "policy.shots=0")
    assert f"policy.template={template}" in said
    plain, own = (json.loads((tmp_path / name / "warm_start.json").read_text()) for name in ("plain", "own"))
    assert plain["losses"] != own["losses"]
    assert own["settings"]["template"] == str(template)
    assert "template" not in plain["settings"] or not plain["settings"]["template"]


def test_other_settings_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    for setting, says in {
        "sampling.temperature=1": r"settings of \[policy\], got \[sampling\]",
        "policy.templat=x": "did you mean 'template'",
        "policy.shots=-1": "must not be negative",
        "policy.prompt=essay": "one of",
    }.items():
        with pytest.raises(ConfigError, match=says):
            start(tmp_path / "out", setting)
    with pytest.raises(FormatError, match="cannot be read"):
        start(tmp_path / "out", "policy.template=none.toml")
    assert not (tmp_path / "out").exists()
