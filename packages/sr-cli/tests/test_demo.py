"""``sr demo``: its folder, and the whole of it in small."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from sr_cli.commands import demo
from sr_cli.config import load_config
from sr_cli.main import sr
from sr_core.errors import RunError

SMALL = (
    *("campaign.steps=2", "sampling.prompts=2", "sampling.group_size=4", "tasks.train=4", "tasks.heldout=3"),
    *("tasks.audit=3", "evaluate.samples=2", "evaluate.audit_samples=2", "evaluate.every=1"),
)
ASKED = {"policy": "pocket-rich", "seed": 0}


def test_a_demo_cut_short_goes_on_in_its_folder_and_a_complete_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first = demo._folder(None, ASKED)
    assert first == Path("sr-demo")
    assert demo._folder(None, ASKED) == demo._folder(first, ASKED) == first
    assert demo._folder(None, {**ASKED, "seed": 1}) == Path("sr-demo-2")
    (first / "summary.json").write_text("{}")
    assert demo._folder(None, ASKED) == Path("sr-demo-3")
    for asked in (ASKED, {**ASKED, "seed": 1}):
        with pytest.raises(RunError, match="must be new or empty"):
            demo._folder(first, asked)


def test_its_runs_differ_in_who_controls_them_only() -> None:
    for preset in demo.PRESETS.values():
        configs = {name: load_config(None, preset, list(own)).plain() for name, own in demo.RUNS.items()}
        for name, config in configs.items():
            changed = {key for key in config if config[key] != configs["unguarded"][key]}
            assert changed == {"unguarded": set(), "guarded": {"guard", "optim"}, "measured": {"optim"}}[name]
        assert configs["guarded"]["optim"] == {**configs["unguarded"]["optim"], "average": True}


@pytest.mark.nightly
def test_the_demo_in_small_is_interrupted_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "RUNS", {name: (*own, *SMALL) for name, own in demo.RUNS.items()})
    out, pause = tmp_path / "demo", time.sleep

    def interrupt(seconds: float) -> None:
        pause(seconds)
        if (out / "unguarded" / "metrics.jsonl").exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(demo.time, "sleep", interrupt)
    cut = CliRunner().invoke(sr, ["demo", "--out", str(out)])
    assert cut.exit_code != 0
    assert f"what is done is in {out}; the same command continues" in cut.output
    assert not (out / "summary.json").exists()

    monkeypatch.setattr(demo.time, "sleep", pause)
    done = CliRunner().invoke(sr, ["demo", "--out", str(out)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert list(json.loads((out / "summary.json").read_text())) == list(demo.RUNS)
    for name in demo.RUNS:
        steps = [json.loads(row)["step"] for row in (out / name / "metrics.jsonl").read_text().splitlines()]
        assert steps == [0, 1, 2]
    assert (out / "report.html").stat().st_size > 10_000
    assert "What to try next" in done.output
