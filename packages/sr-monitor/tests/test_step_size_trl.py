"""The step-size callback in TRL's trainers: completions are measured, not prompts, and a run lives that would die."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("trl", reason="needs TRL: uv sync --group bench")
pytest.importorskip("datasets", reason="needs datasets: uv sync --group bench")

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from sr_monitor.integrations.step_size import StepSizeCallback

PROMPT = 20
SETTINGS: dict[str, Any] = {
    "max_steps": 3,
    "learning_rate": 1e-2,
    "lr_scheduler_type": "constant",
    "logging_steps": 1,
    "save_strategy": "no",
    "report_to": [],
    "disable_tqdm": True,
    "use_cpu": True,
    "bf16": False,
}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "examples"))
    import trl_step_size

    return trl_step_size


class Recording(StepSizeCallback):
    """Remembers the attention masks of what was measured, and the places."""

    def __init__(self) -> None:
        super().__init__()
        self.measured: list[tuple[list[int], list[int]]] = []

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().on_pre_optimizer_step(*args, **kwargs)
        self.measured += [(row.inputs["attention_mask"][0].tolist(), row.places.tolist()) for row in self._rows]


def long_prompts() -> list[str]:
    rng = torch.Generator().manual_seed(0)
    return ["".join("abcdefgh"[i] for i in torch.randint(8, (PROMPT,), generator=rng)) for _ in range(16)]


def test_grpo_is_measured_on_completions_and_not_on_prompts(examples: ModuleType, tmp_path: Path) -> None:
    callback, length = Recording(), 4
    GRPOTrainer(
        model=examples.tiny_policy(),
        reward_funcs=lambda completions, **_: [float(text.count("a")) for text in completions],
        args=GRPOConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=16,
            num_generations=4,
            max_completion_length=length,
            **SETTINGS,
        ),
        train_dataset=Dataset.from_dict({"prompt": long_prompts()}),
        processing_class=examples.tiny_tokenizer(),
        callbacks=[callback],
    ).train()
    assert len(callback.measured) == 12
    for mask, places in callback.measured:
        assert places == [i - 1 for i, real in enumerate(mask) if i >= PROMPT and real]
    assert all(0 < step["step_kl"] <= step["limit"] for step in callback.steps)


def test_sft_is_measured_on_what_it_trains(examples: ModuleType, tmp_path: Path) -> None:
    callback = Recording()
    rows = [{"prompt": prompt, "completion": "abba"} for prompt in long_prompts()]
    SFTTrainer(
        model=examples.tiny_policy(),
        args=SFTConfig(output_dir=str(tmp_path), per_device_train_batch_size=4, **SETTINGS),
        train_dataset=Dataset.from_list(rows),
        processing_class=examples.tiny_tokenizer(),
        callbacks=[callback],
    ).train()
    assert len(callback.measured) == 12
    assert all(places == list(range(PROMPT - 1, len(mask) - 1)) for mask, places in callback.measured)
    assert all(0 < step["step_kl"] <= step["limit"] for step in callback.steps)


def test_a_grpo_run_that_dies_at_its_rate_lives_with_the_callback(examples: ModuleType, tmp_path: Path) -> None:
    start, dead, _ = examples.train(tmp_path / "fixed", measured=False)
    _, alive, callback = examples.train(tmp_path / "measured", measured=True)
    assert dead < start < alive
    assert callback is not None
    assert all(step["step_kl"] <= step["limit"] for step in callback.steps)
