"""A real ``GRPOTrainer`` with the callback: its log, read by our reader, tells what the guard decided."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("trl", reason="needs TRL: uv sync --group bench")
pytest.importorskip("datasets", reason="needs datasets: uv sync --group bench")

import torch
from datasets import Dataset
from transformers import Qwen2ForCausalLM
from trl import GRPOConfig, GRPOTrainer

from sr_monitor import CollapseGuard, judge, read_runs
from sr_monitor.integrations.transformers import CollapseGuardCallback, GenerationEvaluator


@pytest.fixture(scope="module")
def example() -> ModuleType:
    path = Path(__file__).parents[1] / "examples" / "trl_grpo.py"
    spec = importlib.util.spec_from_file_location("trl_grpo_example", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def grpo(example: ModuleType, folder: Path, callback: Any, **options: Any) -> Any:
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": 14,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": 32,
        "num_generations": 8,
        "max_completion_length": example.LENGTH,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": False,
    }
    return GRPOTrainer(
        model=example.tiny_policy(),
        reward_funcs=example.share_of_a,
        args=GRPOConfig(**settings | options),
        train_dataset=Dataset.from_dict({"prompt": example.TRAIN}),
        processing_class=example.tiny_tokenizer(),
        callbacks=[callback],
    )


def guarded(example: ModuleType, guard: Any = None) -> CollapseGuardCallback:
    evaluator = GenerationEvaluator(
        tokenizer=example.tiny_tokenizer(),
        prompts=example.HELDOUT,
        passed=example.wanted,
        max_new_tokens=example.LENGTH,
        temperature=1.0,
        batch=512,
    )
    return CollapseGuardCallback(evaluate=evaluator, guard=guard)


def test_the_log_of_a_grpo_run_tells_what_the_guard_decided_and_the_kept_policy_loads(
    example: ModuleType, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    callback = guarded(example, CollapseGuard())
    trainer = grpo(example, tmp_path, callback)
    trainer.train()
    trainer.save_state()
    (run,) = read_runs(tmp_path)
    rows = {record.step: record for record in run.records}
    assert [step for step, row in rows.items() if row.heldout is not None] == [step for step, _ in callback.decisions]
    assert all("train_reward" in row.signals for step, row in rows.items() if step)  # not taken by our own rows
    back = [(step, d.to_step) for step, d in callback.decisions if d.action == "roll_back"]
    assert back  # it over-optimizes
    assert [(s, r.decision["to_step"]) for s, r in rows.items() if r.decision.get("rule") == "fall" and s < 14] == [
        found for found in back if found[0] < 14
    ]
    kept = callback.guard.kept()
    curve = run.campaigns[-1].surviving
    assert curve is not None
    assert curve.steps[-1] == kept
    verdict = judge(run)
    assert verdict.verdict == "healthy", verdict.reason
    assert (verdict.column, verdict.action) == ("eval_heldout_pass1", "continue")

    loaded = Qwen2ForCausalLM.from_pretrained(tmp_path / "collapse_guard" / "kept")
    ours = dict(trainer.model.named_parameters())
    assert all(torch.equal(p, ours[name]) for name, p in loaded.named_parameters())


def test_by_default_a_grpo_run_draws_a_quarter_of_its_samples_for_evaluations_at_most(
    example: ModuleType, tmp_path: Path
) -> None:
    callback = guarded(example)
    trainer = grpo(example, tmp_path, callback, max_steps=8, num_iterations=2)
    trainer.train()
    drawn = 8 * 32 // 2  # completions are trained on twice
    assert callback.guard.train_samples == 16
    assert 0 < callback.evaluated_samples <= drawn / 3


def test_after_a_rollback_a_grpo_run_draws_new_completions(
    example: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class BackAtTwo(CollapseGuard):
        def decide(self, step: int, signals: Any) -> Any:
            return super().decide(step, {**signals, "finite": float(step != 2)})

    drawn: list[int] = []
    draw = GRPOTrainer._generate_and_score_completions

    def noted(trainer: Any, *given: Any) -> Any:
        drawn.append(trainer.state.global_step)
        return draw(trainer, *given)

    monkeypatch.setattr(GRPOTrainer, "_generate_and_score_completions", noted)
    grpo(example, tmp_path, guarded(example, BackAtTwo(margin=0.9)), max_steps=6, num_iterations=4).train()
    assert drawn == [0, 2, 4]  # training on the same completions four times would leave out the 2
