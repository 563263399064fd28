"""A real ``GRPOTrainer`` run that dies at its learning rate, without and with steps of a measured size. No download.

    pip install './packages/sr-monitor[transformers]' trl && python packages/sr-monitor/examples/trl_step_size.py

The policy is the tiny Qwen2 of ``trl_grpo.py``; a completion is right if it has as many "a" as "b", at least two of
each. The learning rate is about a hundred times too high.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer
from trl_grpo import HELDOUT, LENGTH, TRAIN, heldout_rate, tiny_policy, tiny_tokenizer

from sr_monitor.integrations.step_size import StepSizeCallback
from sr_monitor.integrations.transformers import GenerationEvaluator

LEARNING_RATE = 0.3


def right(text: str) -> bool:
    return text.count("a") == text.count("b") >= 2


def reward(completions: Sequence[str], **_: Any) -> list[float]:
    return [float(right(text)) for text in completions]


def passed(_task: int, completions: Sequence[str]) -> list[bool]:
    return [right(text) for text in completions]


def train(
    folder: Path, *, measured: bool, steps: int = 40, lr: float = LEARNING_RATE
) -> tuple[float, float, StepSizeCallback | None]:
    """Trains; the held-out pass rate before and after, and the callback with its steps."""
    tokenizer = tiny_tokenizer()
    evaluator = GenerationEvaluator(
        tokenizer=tokenizer, prompts=HELDOUT, passed=passed, max_new_tokens=LENGTH, temperature=1.0, batch=512
    )
    callback = StepSizeCallback() if measured else None
    trainer = GRPOTrainer(
        model=tiny_policy(),
        reward_funcs=reward,
        args=GRPOConfig(
            output_dir=str(folder),
            max_steps=steps,
            learning_rate=lr,
            lr_scheduler_type="constant",
            per_device_train_batch_size=64,
            num_generations=16,
            max_completion_length=LENGTH,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            bf16=False,
        ),
        train_dataset=Dataset.from_dict({"prompt": TRAIN}),
        processing_class=tokenizer,
        callbacks=[callback] if callback else [],
    )
    start = heldout_rate(trainer.model, evaluator)
    trainer.train()
    return start, heldout_rate(trainer.model, evaluator), callback


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--lr", type=float, default=LEARNING_RATE)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        start, fixed, _ = train(Path(folder) / "fixed", measured=False, steps=options.steps, lr=options.lr)
        _, bounded, callback = train(Path(folder) / "measured", measured=True, steps=options.steps, lr=options.lr)
    assert callback is not None
    shortened = sum(step["shortened"] > 0 for step in callback.steps)
    print(
        f"held-out pass@1 {start:.1%}; at a fixed rate of {options.lr:g} {fixed:.1%}, with measured steps {bounded:.1%}"
    )
    print(f"{shortened} of {len(callback.steps)} steps shortened; the rate at the end: {callback.steps[-1]['lr']:.2g}")


if __name__ == "__main__":
    main()
