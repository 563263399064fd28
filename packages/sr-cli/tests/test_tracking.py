"""TensorBoard for real, read back by the monitor; the other trackers say what they lack."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from sr_cli.config import from_mapping
from sr_core.errors import RunError
from sr_core.runs.tracking import tracker
from sr_monitor.logs.readers import read_run
from sr_monitor.logs.tfevents import scalars


def row(campaign: int, step: int, **values: Any) -> dict[str, Any]:
    return {"campaign": campaign, "step": step, "heldout_pass1": 0.25 + step / 8, "kl": None, "seconds": {}} | values


def test_tensorboard_gets_every_number_and_the_monitor_reads_them(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="TensorBoard is not installed")
    config = from_mapping({"tracking": {"name": "tensorboard"}, "campaign": {"steps": 2, "count": 2}})
    with tracker("tensorboard", "p", tmp_path, config.plain()) as track:
        for campaign in range(2):
            for step in range(3):
                track(row(campaign, step, entropy=1.5))
    file = next(path for path in tmp_path.rglob("*tfevents*") if any(tag == "entropy" for _, tag, _ in scalars(path)))
    found = [(step, value) for step, tag, value in scalars(file) if tag == "heldout_pass1"]
    assert found == [(0, 0.25), (1, 0.375), (2, 0.5), (3, 0.25), (4, 0.375), (5, 0.5)]
    assert not any(tag in ("kl", "seconds") for _, tag, _ in scalars(file))
    assert [record.heldout for record in read_run(file).records] == [value for _, value in found]


@pytest.mark.parametrize("name", ["wandb", "trackio", "mlflow"])
def test_a_tracker_that_is_not_installed_says_so(name: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(name) is not None:
        pytest.skip(f"{name} is installed")
    with pytest.raises(RunError, match=f"needs the package {name}, it is not installed: pip install {name}"):
        tracker(name, "p", tmp_path, {}).__enter__()
    assert not any(tmp_path.iterdir())


def test_without_a_tracker_nothing_is_written(tmp_path: Path) -> None:
    with tracker("none", "p", tmp_path, {}) as track:
        track(row(0, 0))
    assert not any(tmp_path.iterdir())
