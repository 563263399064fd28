"""Rules from outside are scored on recorded runs: entry points and tables of decisions."""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sr_monitor import CollapseGuard, MonitorError, read_runs
from sr_monitor.tracebench import Outcome, Score, Trace, decisions, detected, entry_point, export, guarded, load, split

FALL = [0.3, 0.4, 0.5, 0.6, 0.6, 0.6, 0.3, 0.1, 0.0, 0.0]


def recorded(name: str, seed: int, curve: list[float]) -> dict[str, Any]:
    """A trace as benchmarks/traces/record.py writes it: 10 held-out tasks of 32 samples, 40 audit tasks of 4."""
    rng = np.random.default_rng(seed)
    rows = [
        {
            "step": step,
            "heldout": [
                f"{sum(int(bit) << j for j, bit in enumerate(task)):x}" for task in rng.random((10, 32)) < rate
            ],
            "audit": rng.binomial(4, rate, 40).tolist(),
            "signals": {"loss": 0.1, "train_reward": rate, "kl": None},
        }
        for step, rate in enumerate(curve)
    ]
    about = {"name": f"{name}-{seed}", "seed": seed, "config": {"steps": len(curve) - 1}, "train_samples": 64}
    return {**about, "pool": 32, "audit_samples": 4, "rows": rows}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    runs = [recorded("falls", seed, FALL) for seed in (0, 1, 3)] + [recorded("stays", 5, [0.5] * 10)]
    (folder / "traces.json.gz").write_bytes(gzip.compress(json.dumps(runs).encode()))
    return folder


def part_of(data: Path) -> list[Trace]:
    return split(load(data))[1]


class Halved:
    """Alarm where the training reward is less than half of its highest value; keep the step of that."""

    def begin(self, steps: int, tasks: int) -> int:
        self.best, self.at = 0.0, 0
        self.seen: list[tuple[int, int]] = []
        return 4

    def update(self, step: int, passes: Sequence[int], samples: int, signals: Mapping[str, float | None]) -> bool:
        self.seen.append((len(passes), samples))
        reward = signals["train_reward"] or 0.0
        if reward > self.best:
            self.best, self.at = reward, step
        return reward < self.best / 2

    def kept(self) -> int:
        return self.at


def test_a_detector_is_shown_each_step_once_and_pays_for_what_it_draws(data: Path) -> None:
    made: list[Halved] = []

    def make() -> Halved:
        made.append(Halved())
        return made[-1]

    trace = part_of(data)[0]
    assert detected(make)(trace) == Outcome(alarm=7, kept=3, drawn=8 * 10 * 4, trained=7 * 64)
    assert made[0].seen == [(10, 4)] * 8


def test_a_guard_by_name_is_the_guard(data: Path) -> None:
    traces = part_of(data)
    assert Score.of(entry_point("sr_monitor:CollapseGuard"), traces) == Score.of(
        guarded(lambda trace: CollapseGuard()), traces
    )


class KeepsTheFuture(Halved):
    def kept(self) -> int:
        return 9


class WantsALot(Halved):
    def begin(self, steps: int, tasks: int) -> int:
        super().begin(steps, tasks)
        return -1


@pytest.mark.parametrize(("kind", "rule"), [(KeepsTheFuture, "last executed"), (WantsALot, "0 or more")])
def test_answers_that_break_the_rules_are_refused(kind: type[Halved], rule: str, data: Path) -> None:
    with pytest.raises(MonitorError, match=rule):
        detected(kind)(part_of(data)[0])


@pytest.mark.parametrize(
    "name", ["no_such_module:x", "sr_monitor:no_such", "sr_monitor", "json:dumps.x", "os:sep", "builtins:dict"]
)
def test_what_is_no_detector_is_one_line(name: str) -> None:
    with pytest.raises(MonitorError) as caught:
        entry_point(name)
    assert "\n" not in str(caught.value)


def write(path: Path, rows: list[str], head: str = "run,alarm,kept") -> Path:
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def test_decisions_made_on_the_exported_logs_score_as_the_same_detector(data: Path, tmp_path: Path) -> None:
    """Whoever decides elsewhere sees the samples that a detector here is given."""
    traces = part_of(data)

    class Elsewhere(Halved):
        def begin(self, steps: int, tasks: int) -> int:
            super().begin(steps, tasks)
            return 16

        def update(self, step: int, passes: Sequence[int], samples: int, signals: Mapping[str, float | None]) -> bool:
            return super().update(step, passes, samples, {"train_reward": sum(passes) / (samples * len(passes))})

    export(traces, tmp_path / "logs")
    rows = []
    for trace in traces:
        with (tmp_path / "logs" / f"{trace.name}.csv").open() as file:
            log = list(csv.DictReader(file))
        detector, alarm = Halved(), ""
        detector.begin(len(log) - 1, 10)
        for row in log:
            if detector.update(int(row["step"]), [], 0, {"train_reward": float(row["heldout_pass1"])}):
                alarm = row["step"]
                break
        rows.append(f"{trace.name},{alarm},{detector.kept()}")
    theirs = Score.of(decisions(write(tmp_path / "d.csv", rows), traces), traces)
    assert theirs == Score.of(detected(Elsewhere), traces)
    assert theirs.false_alarms == 0


def test_an_exported_log_is_one_that_we_read_and_holds_no_audit(data: Path, tmp_path: Path) -> None:
    traces = part_of(data)
    export(traces, tmp_path / "logs")
    (run,) = read_runs(tmp_path / "logs" / f"{traces[0].name}.csv")
    first = run.records[0]
    assert first.heldout == pytest.approx(traces[0].passed_ETS[0, :, :16].mean(), abs=1e-6)
    assert "audit" not in (tmp_path / "logs" / f"{traces[0].name}.csv").read_text()


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (["falls-1,7,3", "falls-3,,3"], "stays-5"),  # a run without a decision
        (["falls-1,7,3", "falls-1,7,3", "stays-5,,1"], "twice"),
        (["falls-0,7,3", "falls-3,7,3", "stays-5,,1"], "line 2"),  # of the calibration part
        (["falls-1,10,3", "falls-3,,3", "stays-5,,1"], "from 0 to 9"),
        (["falls-1,7,8", "falls-3,,3", "stays-5,,1"], "from 0 to 7"),  # kept after the alarm
        (["falls-1,x,3", "falls-3,,3", "stays-5,,1"], "alarm"),
        (["falls-1,7", "falls-3,,3", "stays-5,,1"], "kept"),
    ],
)
def test_a_table_that_breaks_the_rules_is_refused(rows: list[str], says: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(MonitorError, match=says):
        decisions(write(tmp_path / "d.csv", rows), part_of(data))


@pytest.mark.parametrize("content", [b"run,alarm\nx,1\n", b"\xff\xfe\x00", b""])
def test_what_is_no_table_of_decisions_is_refused(content: bytes, data: Path, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_bytes(content)
    with pytest.raises(MonitorError):
        decisions(tmp_path / "d.csv", part_of(data))


def test_the_command_prints_the_row_beside_ours(data: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "class Last:\n"
        "    def begin(self, steps, tasks):\n        self.step = 0\n        return 0\n"
        "    def update(self, step, passes, samples, signals):\n        self.step = step\n        return False\n"
        "    def kept(self):\n        return self.step\n"
    )

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sr_monitor.tracebench", "--data", str(data), *more]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=dict(os.environ))

    done = run("--detector", "mine:Last", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["part"], found["runs"]) == ("test", 3)
    last = found["methods"]["mine:Last"]
    assert (last["false_alarms"], last["delay"], last["evaluation_share"]) == (0.0, None, 0.0)
    assert last["regret"] > 30
    bad = run("--detector", "mine:First")
    assert (bad.returncode, len(bad.stderr.splitlines())) == (2, 1)
