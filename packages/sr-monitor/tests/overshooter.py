"""A transformers ``Trainer`` of one number, which overshoots: what the callback does with it is known beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers

from sr_monitor import CollapseGuard
from sr_monitor.integrations.transformers import CollapseGuardCallback

TASKS = 30


class Overshooter(torch.nn.Module):
    """One number that training pushes up for ever; tasks pass best while it is near 1."""

    def __init__(self) -> None:
        super().__init__()
        self.level = torch.nn.Parameter(torch.zeros(()))
        self.frozen = torch.nn.Parameter(torch.ones(3), requires_grad=False)

    def forward(self, x: Any, labels: Any = None) -> dict[str, Any]:
        return {"loss": -self.level * x.mean(), "logits": x}

    @property
    def pass_rate(self) -> float:
        return float(max(0.02, 0.95 - 0.7 * (self.level.item() - 1) ** 2))


def evaluate(model: Overshooter, samples: int, tasks: Sequence[int]) -> list[int]:
    """Draws from torch's random numbers, as generation does."""
    return [int((torch.rand(samples) < model.pass_rate).sum()) for _ in tasks]


def trainer(folder: Path, callback: Any, steps: int = 30, **options: Any) -> Any:
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        learning_rate=0.12,
        lr_scheduler_type="constant",
        per_device_train_batch_size=options.pop("batch", 1),
        logging_steps=options.pop("logging_steps", 1),
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        save_strategy=options.pop("save_strategy", "no"),
        **options,
    )
    data = [{"x": torch.ones(1)} for _ in range(8)]
    callbacks = [] if callback is None else [callback]
    return transformers.Trainer(Overshooter(), arguments, train_dataset=data, eval_dataset=data, callbacks=callbacks)


def guarded(**options: Any) -> CollapseGuardCallback:
    """With a guard that evaluates everything after every step, unless ``options`` say otherwise."""
    guard = options.pop("guard", None) or CollapseGuard(last_iterate=options.get("average", False))
    return CollapseGuardCallback(evaluate=evaluate, tasks=TASKS, guard=guard, **options)
