"""``sr run`` and its kin on bad and on good input, through the real entry point."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sr_care import CapabilityMemory, CareError
from sr_cli import runs
from sr_cli.config import describe_run, load_config
from sr_cli.main import main
from sr_cli.main import sr as group
from sr_core import Policy, RunStore

SMALL = [
    *("--set", "campaign.steps=2", "--set", "sampling.prompts=2", "--set", "sampling.group_size=4"),
    *("--set", "tasks.train=4", "--set", "tasks.heldout=3", "--set", "tasks.audit=3"),
    *("--set", "evaluate.samples=2", "--set", "evaluate.audit_samples=2"),
]


def sr(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sr_cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def the_line(stdout: str, stderr: str) -> str:
    """The one line that a refused command prints."""
    lines = [line for line in stderr.splitlines() if line.startswith("sr: ")]
    assert len(lines) == 1, stderr
    assert "Traceback" not in stderr
    assert stdout == ""
    return lines[0]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Gives what ``sr`` with these arguments says when it refuses; here, as a process would first import torch."""

    def line(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["sr", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code == 2
        return the_line(*capsys.readouterr())

    return line


def test_bad_input_is_one_line_and_nothing_is_written(tmp_path: Path, refused: Callable[..., str]) -> None:
    out = tmp_path / "run"
    empty = tmp_path / "empty"
    empty.mkdir()
    no_weights = tmp_path / "no_weights"
    no_weights.mkdir()
    (no_weights / "config.json").write_text("{}")
    cases: list[tuple[list[object], str]] = [
        ([tmp_path / "missing.toml"], "missing.toml"),
        (["--set", "optim.lr=-0.1"], "optim.lr must be above 0, got -0.1"),
        (["--set", "optim.learning_rate=1"], "unknown key optim.learning_rate"),
        (["--set", "tasks.train=100000"], "tasks.train must be at most"),
        (["--set", "tasks.path=nowhere.jsonl"], "nowhere.jsonl"),
        (["--set", f"policy.path={empty}"], "holds no config.json"),
        (["--set", f"policy.path={no_weights}"], "holds no weights"),
        (["--set", "policy.path=Qwen/Qwen2.5-3B-Instruct"], "models are not downloaded"),
        (["--preset", "testbad"], "did you mean 'testbed'"),
        (["--seed", "x"], "--seed"),
    ]
    for arguments, message in cases:
        assert message in refused("run", *arguments, "--out", out)
        assert not out.exists()
    assert "run.json" in refused("resume", empty)


def test_what_is_wrong_with_a_folder_is_said_before_torch_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes").write_text("mine")
    (tmp_path / "list").mkdir()
    (tmp_path / "list" / "run.json").write_text("[]")
    without_torch = "import sys; sys.modules['torch'] = None; from sr_cli.main import main; main()"
    cases: list[tuple[list[object], str]] = [
        (["run", "--out", tmp_path / "used"], "must be new or empty"),
        (["demo", "--out", tmp_path / "used"], "must be new or empty"),
        (["resume", tmp_path / "used"], "must hold run.json"),
        (["resume", tmp_path / "list"], "must hold an object, got list"),
    ]
    for arguments, message in cases:
        command = [sys.executable, "-c", without_torch, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
        assert message in the_line(done.stdout, done.stderr)


def test_a_folder_that_holds_another_run_is_left_as_it_is(tmp_path: Path, refused: Callable[..., str]) -> None:
    out = tmp_path / "run"
    done = sr("run", *SMALL, "--out", out, "--json")
    assert done.returncode == 0, done.stderr
    summary: dict[str, Any] = json.loads(done.stdout)
    assert {"start", "peak", "peak_step", "end", "kept", "audit", "campaigns"} <= summary.keys()
    assert summary == json.loads((out / "summary.json").read_text())
    run = json.loads((out / "run.json").read_text())
    assert {"config", "seed", "versions", "device", "isolation"} <= run.keys()
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file()}
    assert f"sr resume {out}" in refused("run", *SMALL, "--out", out)
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"start":', "must be JSON"),
        ("[]", "must hold an object, got list"),
        ('{"start": 0.1, "peak": 0.2}', "must hold peak_step, peak_campaign, end, kept, campaigns"),
    ],
)
def test_a_broken_summary_is_one_line_with_the_way_out(
    tmp_path: Path, refused: Callable[..., str], text: str, message: str
) -> None:
    (tmp_path / "run.json").write_text("{}")
    (tmp_path / "summary.json").write_text(text)
    said = refused("resume", tmp_path)
    assert message in said
    assert f"remove it, then make it again from the last checkpoint: sr resume {tmp_path}" in said


def test_a_demos_folder_is_no_run(tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "summary.json").write_text('{"unguarded": {}, "guarded": {}}')
    assert "must hold run.json" in refused("resume", tmp_path)


def interrupted_at(step: int, out: Path, every: int) -> None:
    def on_row(row: dict[str, Any]) -> None:
        if row["step"] == step:
            raise KeyboardInterrupt

    config = load_config(None, "testbed", [*SMALL[1::2], "campaign.steps=4", f"campaign.checkpoint_every={every}"])
    with pytest.raises(KeyboardInterrupt):
        runs.start(config, out, 0, on_row)


def test_an_interrupt_says_which_step_is_saved_and_that_is_where_the_run_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    interrupted_at(3, out, every=2)
    said = capsys.readouterr().err
    assert (
        f"sr: state saved up to step 3 of campaign 0 (any later step is run again), continue with: sr resume {out}\n"
        in said
    )
    store = RunStore.open(out)
    assert [row["step"] for row in store.rows()] == [0, 1, 2, 3]
    found = store.load()
    assert found is not None
    assert (found.campaign, found.step) == (0, 3)


@pytest.mark.nightly  # in the gate, test_assemble.py has a resumed run refuse to begin another memory
def test_a_run_with_a_memory_goes_on_from_its_folder_wherever_that_is_moved_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = [
        *SMALL[1::2],
        "campaign.steps=1",
        "campaign.count=2",
        "tasks.ood=1",
        "planner.name=care",
        "planner.version=v3",
    ]
    config = load_config(None, "testbed", [*settings, "planner.memory=m.db"])
    rows = []

    def interrupt(row: dict[str, Any]) -> None:
        rows.append(row)
        if row["campaign"] == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.start(config, tmp_path / "run", 0, interrupt)
    (tmp_path / "moved").mkdir()
    (tmp_path / "run").rename(tmp_path / "moved" / "run")
    monkeypatch.chdir(tmp_path / "moved")
    with pytest.raises(CareError, match=r"the memory must exist, m\.db does not"):
        runs.resume(describe_run(Path("run")), Path("run"), rows.append)
    assert not Path("m.db").exists()
    monkeypatch.chdir(tmp_path)
    runs.resume(describe_run(Path("moved/run")), Path("moved/run"), rows.append)
    with CapabilityMemory("m.db", read_only=True) as memory:
        (name,) = {entry.run for entry in memory.entries()}
        assert [entry.campaign for entry in memory.entries()] == [0, 1]
    assert name == json.loads(Path("moved/run/run.json").read_text())["name"]


def test_a_memory_that_cannot_be_written_is_said_before_anything_is(
    tmp_path: Path, refused: Callable[..., str]
) -> None:
    care = ("--set", "planner.name=care", "--set", f"planner.memory={tmp_path / 'none' / 'm.db'}")
    assert "m.db cannot be opened" in refused("run", *SMALL, *care, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_interrupt_before_the_first_checkpoint_claims_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RunStore, "save", interrupted)
    interrupted_at(0, tmp_path / "run", every=1)
    said = capsys.readouterr().err
    assert f"sr: interrupted before the first checkpoint, begin again with: sr resume {tmp_path / 'run'}\n" in said


def pretend_free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1 << 40, 0, size))


def test_a_disk_too_small_for_a_run_is_said_before_anything_is_written(
    tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_free(monkeypatch, 50_000_000)
    line = refused("run", *SMALL, "--out", tmp_path / "run")
    # 14 times 4 bytes for each weight of pocket-rich, and a little
    assert re.search(
        r"trains 1,\d{3},\d{3} weights .* needs (7|8)\d MB on the disk of .* has 50 MB free: make room", line
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.nightly  # in the gate, sr-core's test_store.py has the write itself fail
def test_a_disk_that_fills_up_stops_the_run_with_one_line_and_it_can_go_on(
    tmp_path: Path, refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_free(monkeypatch, 1 << 40)
    mount = tmp_path / "small"
    mount.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", mount], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here (needs root)")
    try:
        settings = ("--set", "campaign.steps=4", "--set", "campaign.checkpoint_every=1")
        assert "make room" in refused("run", *SMALL, *settings, "--out", mount / "run")
        subprocess.run(["mount", "-o", "remount,size=200m", mount], check=True)
        done = sr("resume", mount / "run", "--json")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["campaigns"][0]["steps"] == 4
    finally:
        subprocess.run(["umount", mount], check=True)


@pytest.mark.parametrize("command", ["demo", "run", "resume", "report", "grade", "sandbox", "watch", "memory"])
def test_every_command_has_help_with_an_example(command: str) -> None:
    done = sr(command, "--help")
    assert done.returncode == 0, done.stderr
    assert "Example" in done.stdout


def test_a_warm_start_gives_a_policy_that_a_run_takes(tmp_path: Path) -> None:
    started = tmp_path / "started"
    arguments = ["warm-start", "--policy", "pocket-fragile", "--tasks", "testbed", "--examples", "4"]
    told = CliRunner().invoke(group, [*arguments, "--out", str(started)], catch_exceptions=False)
    assert told.exit_code == 0
    assert f"--set policy.path={started}" in told.output
    assert json.loads((started / "warm_start.json").read_text())["examples"] == 4
    assert Policy.load(str(started)).size == Policy.load("pocket-fragile").size


def test_an_unknown_command_is_told_the_nearest(refused: Callable[..., str]) -> None:
    assert refused("dmeo") == "sr: unknown command 'dmeo': did you mean 'demo'?"
