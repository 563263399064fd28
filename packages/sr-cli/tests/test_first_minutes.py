"""What a new user meets first: bare ``sr``, ``sr doctor``, shell completion."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import torch
from click.testing import CliRunner

from sr_cli.commands.doctor import command
from sr_cli.main import COMMANDS, sr


def test_without_arguments_sr_shows_five_things_that_exist() -> None:
    done = CliRunner().invoke(sr, [])
    assert done.exit_code == 0
    shown = [line.split()[1] for line in done.output.splitlines() if line.startswith("  sr ")]
    assert len(shown) == 5
    assert set(shown) <= set(COMMANDS)


def test_doctor_answers_people_and_programs_alike() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        well = CliRunner().invoke(command, ["--json"], standalone_mode=False)
        torch.set_num_threads(512)
        crowded = CliRunner().invoke(command, [], standalone_mode=False)
    finally:
        torch.set_num_threads(before)
    found = json.loads(well.stdout)
    problems = [finding for finding in found["findings"] if finding["status"] == "problem"]
    assert found["problems"] == len(problems)
    assert well.return_value == bool(problems)
    assert found["findings"][0]["name"] == "isolation"
    assert all(finding["advice"] for finding in problems)
    assert crowded.return_value == 1
    assert "set OMP_NUM_THREADS=" in crowded.stdout
    assert all(finding["name"] in crowded.stdout for finding in found["findings"])


def test_a_shell_completes_commands_and_options() -> None:
    def completed(words: str) -> list[str]:
        place = str(len(words.split()) - (not words.endswith(" ")))
        asked = {"_SR_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": place}
        start = "import sys; sys.argv[0] = 'sr'; from sr_cli.main import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", start], env={**os.environ, **asked}, capture_output=True, text=True, check=False
        )
        return [line.partition(",")[2] for line in done.stdout.splitlines()]

    assert set(completed("sr ")) == set(COMMANDS)
    assert "--require-isolation" in completed("sr grade --req")
