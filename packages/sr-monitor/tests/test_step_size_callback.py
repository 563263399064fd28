"""The callback in a real transformers ``Trainer``: the limit holds at any rate, and a run resumes with its rate."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

import torch
import transformers

from sr_monitor import MonitorError
from sr_monitor.integrations.step_size import StepSizeCallback


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny_model() -> Any:
    torch.manual_seed(0)
    size = {"vocab_size": 12, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 32}
    model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**size, **heads))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    return model


def texts(count: int = 64) -> list[dict[str, list[int]]]:
    rng = torch.Generator().manual_seed(1)
    rows = torch.randint(2, 12, (count, 8), generator=rng).tolist()
    return [{"input_ids": row, "attention_mask": [1] * 6 + [0] * 2, "labels": row} for row in rows]


def trainer(folder: Path, callback: StepSizeCallback | None, lr: float, steps: int = 8, **options: Any) -> Any:
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        learning_rate=lr,
        lr_scheduler_type="constant",
        per_device_train_batch_size=8,
        logging_steps=1,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        save_strategy=options.pop("save_strategy", "no"),
        **options,
    )
    callbacks = [] if callback is None else [callback]
    return transformers.Trainer(tiny_model(), arguments, train_dataset=texts(), callbacks=callbacks)


def test_the_limit_holds_at_any_rate_and_the_rates_become_one(tmp_path: Path) -> None:
    rates = []
    for lr in (1e-6, 1e-2, 10.0):
        callback = StepSizeCallback()
        run = trainer(tmp_path, callback, lr)
        run.train()
        assert all(0 < step["step_kl"] <= step["limit"] for step in callback.steps)
        assert len(callback.steps) == 8
        assert all(torch.isfinite(p).all() for p in run.model.parameters())
        assert [row["step_kl"] for row in run.state.log_history if "loss" in row] == [
            pytest.approx(step["step_kl"]) for step in callback.steps
        ]
        rates.append(callback.steps[-1]["lr"])
    assert max(rates) < 1.5 * min(rates)


def test_a_shortened_step_is_that_of_a_smaller_rate(tmp_path: Path) -> None:
    callback = StepSizeCallback(step_kl=1e-3)
    measured = trainer(tmp_path, callback, 1.0, steps=1)
    measured.train()
    scale = callback.steps[0]["scale"]
    assert scale < 0.1
    fixed = trainer(tmp_path, None, scale, steps=1)
    fixed.train()
    for ours, theirs in zip(measured.model.parameters(), fixed.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_resuming_from_a_checkpoint_goes_on_with_the_rate_that_was_found(tmp_path: Path) -> None:
    whole, first, second = StepSizeCallback(), StepSizeCallback(), StepSizeCallback()
    trainer(tmp_path / "whole", whole, 1.0).train()
    options = {"save_strategy": "steps", "save_steps": 4}
    trainer(tmp_path / "half", first, 1.0, steps=4, **options).train()
    trainer(tmp_path / "half", second, 1.0, **options).train(
        resume_from_checkpoint=str(tmp_path / "half" / "checkpoint-4")
    )
    assert [step["step"] for step in second.steps] == [5, 6, 7, 8]
    assert second.steps == whole.steps[4:]


def test_what_cannot_be_measured_is_said(tmp_path: Path) -> None:
    with pytest.raises(MonitorError, match="step_kl must be above 0, got 0"):
        StepSizeCallback(step_kl=0)
    with pytest.raises(MonitorError, match="rows must be at least 1, got 0"):
        StepSizeCallback(rows=0)


@pytest.mark.skipif(importlib.util.find_spec("trl") is None, reason="needs TRL: uv run --group bench")
def test_a_grpo_run_that_dies_at_its_rate_lives_with_the_callback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "examples"))
    import trl_step_size

    start, dead, _ = trl_step_size.train(tmp_path / "fixed", measured=False)
    _, alive, callback = trl_step_size.train(tmp_path / "measured", measured=True)
    assert dead < start < alive
    assert callback is not None
    assert all(step["step_kl"] <= step["limit"] for step in callback.steps)
    sys.modules.pop("trl_step_size")
