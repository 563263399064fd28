"""The callback for SkyRL, driven as SkyRL drives it, on the files that it writes.

With SkyRL installed (``uv pip install --no-deps "skyrl>=0.4"``) its own event dispatcher drives the callback as well.
It is one file that needs the standard library alone; importing the package would need the whole of SkyRL.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sr_monitor import MonitorError
from sr_monitor.integrations.skyrl import CollapseGuardCallback

EVENTS = (
    *("on_train_start", "on_train_end", "on_epoch_start", "on_epoch_end", "on_step_start"),
    *("on_step_end", "on_eval_start", "on_eval_end", "on_save", "on_log"),
)
COLLAPSE = [0.3, 0.5, 0.7, 0.8, 0.8, 0.8, 0.1, 0.05, 0.0, 0.0]


class Trainer:
    """The order of events in ``RayPPOTrainer.train``, with evaluations whose pass rates are given."""

    def __init__(self, folder: Path, rates: list[float], callback: Any, **settings: Any) -> None:
        options: dict[str, Any] = {"dump_eval_results": True, "eval_interval": 2, "max_ckpts_to_keep": -1}
        options |= {"max_training_steps": None, "ckpt_path": str(folder / "ckpt"), "export_path": str(folder)}
        generator = SimpleNamespace(step_wise_trajectories=settings.pop("step_wise", False))
        self.cfg = SimpleNamespace(trainer=SimpleNamespace(**options | settings), generator=generator)
        self.rates, self.callback, self.step = rates, callback, 0
        self.control = SimpleNamespace(should_save=False, should_evaluate=False)
        self.logged: list[dict[str, float]] = []

    def fire(self, event: str, **fields: Any) -> None:
        given = {"batch": None, "metrics": None, "logs": None, "ckpt_path": None} | fields
        total = 2 * (len(self.rates) - 1)
        state = SimpleNamespace(global_step=self.step, epoch=0, total_steps=total, steps_per_epoch=total, **given)
        getattr(self.callback, event)(self, state, self.control)

    def evaluate(self) -> None:
        self.fire("on_eval_start")
        rng = np.random.default_rng(self.step)
        folder = Path(self.cfg.trainer.export_path, "dumped_evals", f"global_step_{self.step}_evals")
        folder.mkdir(parents=True)
        rows = [
            {"input_prompt": f"p{t}", "env_extras": {"answer": t}, "data_source": "d", "score": score}
            for t in range(30)
            for score in np.where(rng.random(16) < self.rates[self.step // 2], 1.0, 0.1).tolist()
        ]
        (folder / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
        (folder / "aggregated_results.jsonl").write_text("{}")
        self.fire("on_eval_end", metrics={})
        logs: dict[str, float] = {}
        self.fire("on_log", logs=logs)
        self.logged.append(logs)

    def train(self) -> None:
        self.fire("on_train_start")
        self.evaluate()
        for step in range(1, 2 * len(self.rates) - 1):
            self.step = step
            self.fire("on_step_start")
            self.fire("on_step_end", metrics={})
            if self.control.should_save:
                Path(self.cfg.trainer.ckpt_path, f"global_step_{self.step}").mkdir(parents=True)
                self.fire("on_save")
            self.control.should_save = False
            if self.step % 2 == 0:
                self.evaluate()
            most = self.cfg.trainer.max_training_steps
            if most is not None and self.step + 1 > most:
                break
        self.fire("on_train_end")


def test_a_run_that_falls_ends_and_says_from_where_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    callback = CollapseGuardCallback()
    trainer = Trainer(tmp_path, COLLAPSE, callback)
    trainer.train()
    assert trainer.step in (12, 14)
    kept = callback.guard.kept()
    assert kept in (6, 8, 10)
    assert f"resume_path={tmp_path / 'ckpt' / f'global_step_{kept}'}" in capsys.readouterr().out
    assert trainer.logged[3]["eval/heldout_pass1"] == pytest.approx(0.8, abs=0.06)


def test_a_healthy_run_goes_on_to_its_end(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, [0.3, 0.4, 0.5, 0.6], CollapseGuardCallback())
    trainer.train()
    assert trainer.step == 6


def test_a_resumed_run_goes_on_where_the_guard_stood(tmp_path: Path) -> None:
    Trainer(tmp_path, COLLAPSE[:6], CollapseGuardCallback()).train()
    again = CollapseGuardCallback()
    resumed = Trainer(tmp_path, COLLAPSE, again)
    resumed.step = 10
    resumed.fire("on_train_start")
    for step in (12, 14):
        resumed.step = step
        if not again.decisions or again.decisions[-1][1].action == "continue":
            resumed.evaluate()
    assert again.decisions[-1][1].action == "stop"
    assert again.guard.kept() <= 10


def test_a_run_resumed_from_a_checkpoint_between_evaluations_knows_its_peak(tmp_path: Path) -> None:
    trainer = Trainer(tmp_path, COLLAPSE[:6], CollapseGuardCallback())
    trainer.train()
    trainer.step = 11  # SkyRL's own ckpt_interval saves here; the guard is not asked for an evaluation
    Path(trainer.cfg.trainer.ckpt_path, "global_step_11").mkdir()
    trainer.fire("on_save")
    again = CollapseGuardCallback()
    resumed = Trainer(tmp_path, COLLAPSE, again)
    resumed.step = 11
    resumed.fire("on_train_start")
    assert again.guard.kept() == trainer.callback.guard.kept() > 0


@pytest.mark.parametrize(
    ("setting", "value"),
    [("dump_eval_results", False), ("eval_interval", 0), ("max_ckpts_to_keep", 2), ("step_wise", True)],
)
def test_settings_it_cannot_work_with_are_refused(tmp_path: Path, setting: str, value: Any) -> None:
    with pytest.raises(MonitorError, match="skyrl: the guard needs"):
        Trainer(tmp_path, [0.5, 0.5], CollapseGuardCallback(), **{setting: value}).train()


def test_the_installed_skyrl_dispatches_to_it(tmp_path: Path) -> None:
    installed = importlib.util.find_spec("skyrl")
    if installed is None or not installed.submodule_search_locations:
        pytest.skip("needs SkyRL, see the head of this file")
    file = Path(installed.submodule_search_locations[0], "train", "utils", "callbacks.py")
    spec = importlib.util.spec_from_file_location("skyrl_callbacks", file)
    assert spec is not None
    assert spec.loader is not None
    theirs = importlib.util.module_from_spec(spec)
    sys.modules["skyrl_callbacks"] = theirs  # for its dataclasses
    spec.loader.exec_module(theirs)
    assert {name for name in vars(theirs.TrainingCallback) if name.startswith("on_")} == set(EVENTS)
    callback = CollapseGuardCallback()
    Trainer(tmp_path, COLLAPSE, theirs.CallbackHandler([callback])).train()
    assert callback.decisions[-1][1].action == "stop"
