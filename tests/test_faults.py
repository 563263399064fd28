"""A NaN in the gradient of a guarded campaign: not applied, counted, reported, and never taken for a peak."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import LetterGrader, make_config, make_policy, make_tasks

from sr_core import CampaignTasks, RunStore, Trainer, run_chain
from sr_core.config import CampaignConfig, EvaluateConfig
from sr_monitor import CollapseGuard, EarlyStop

TASKS = CampaignTasks(train=make_tasks(6), heldout=make_tasks(4, 100), audit=make_tasks(3, 200))
BROKEN = 3


def poisoned(trainer: Trainer, at: int) -> Trainer:
    """The gradient of one weight is NaN in the update number ``at``."""
    calls = {"left": at}
    plain = trainer.update

    def update(graded: Any) -> Any:
        calls["left"] -= 1
        weight = next(p for p in trainer.policy.model.parameters() if p.requires_grad)
        handle = weight.register_hook(lambda g: g * float("nan") if calls["left"] == 0 else g)
        try:
            return plain(graded)
        finally:
            handle.remove()

    trainer.update = update  # type: ignore[method-assign]
    return trainer


@pytest.mark.parametrize(
    ("guard", "action"),
    [
        (None, "continue"),
        (EarlyStop(mode="patience", patience=9, samples=4), "stop"),
        (CollapseGuard(samples=4), "roll_back"),
        (CollapseGuard(samples=4, reset_optimizer=False), "roll_back"),
    ],
)
def test_a_nan_gradient_is_skipped_counted_reported_and_no_peak(tmp_path: Path, guard: Any, action: str) -> None:
    config = make_config(
        campaign=CampaignConfig(steps=6, checkpoint_every=1), evaluate=EvaluateConfig(samples=4, audit_samples=2)
    )
    store = RunStore.create(tmp_path / "run", {})
    saved: list[tuple[int, set[int]]] = []
    plain_save = store.save

    def save(checkpoint: Any) -> None:
        saved.append((checkpoint.step, set(checkpoint.retained)))
        plain_save(checkpoint)
        for path in store.checkpoints.rglob("weights.safetensors"):
            assert all(torch.isfinite(w).all() for w in load_file(path).values())

    store.save = save  # type: ignore[method-assign]
    trainer = poisoned(Trainer(make_policy(), LetterGrader(), config), BROKEN)
    summary = run_chain(trainer, lambda _: TASKS, guard, store=store)
    rows = store.rows()
    assert [row["finite"] for row in rows] == [0.0 if row["step"] == BROKEN else 1.0 for row in rows]
    broken = rows[BROKEN]
    assert (broken["grad_norm"], broken["loss"], broken["heldout_pass1"]) == (None, None, None)
    assert broken["decision"]["action"] == action
    if guard is not None:
        assert broken["decision"]["rule"] == "non_finite"
        assert "not finite" in broken["decision"]["reason"]
        assert summary["campaigns"][0]["kept_step"] != BROKEN
        assert all(BROKEN not in held for _, held in saved)
    assert summary["campaigns"][0]["skipped"] == 1
    assert summary["peak_step"] != BROKEN
    assert all(torch.isfinite(w).all() for w in trainer.weights().values())
    json.dumps(summary.to_json(), allow_nan=False)
