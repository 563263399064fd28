"""What the callback needs of the transformers ``Trainer`` that calls it, and may find or set there."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments

from sr_monitor.guard.collapse_guard import BUDGET_EVERY, CollapseGuard
from sr_monitor.guard.decision import Decision

__all__ = [
    "BoundsSteps",
    "calling_trainer",
    "checkpoint_folder",
    "come_first",
    "default_guard",
    "loss_scale",
    "rank_and_world",
    "resumed_checkpoint",
    "save_policy",
    "scale_rate",
    "soften",
]

# A guard chosen by default evaluates about so often where nothing says how often.
DEFAULT_EVALUATIONS = 40


def calling_trainer(callback: TrainerCallback) -> Trainer | None:
    """The trainer whose event is running, or None where something else calls ``callback``.

    transformers gives callbacks no reference to their trainer, and its log and its sampling engine are reached through
    it alone; the frames of the running call have it.
    """
    return next((trainer for trainer, _ in _frames(callback)), None)


def resumed_checkpoint(callback: TrainerCallback) -> Path | None:
    """The folder that the running training was resumed from, as its trainer was told; None where there is none."""
    found = (variables.get("resume_from_checkpoint") for _, variables in _frames(callback))
    return next((Path(folder) for folder in found if isinstance(folder, str | Path)), None)


def _frames(callback: TrainerCallback) -> Iterator[tuple[Trainer, dict[str, Any]]]:
    """The running methods of the trainer of ``callback`` and their variables, innermost first."""
    frame = sys._getframe(1)
    while frame is not None:
        owner = frame.f_locals.get("self")
        if isinstance(owner, Trainer) and any(known is callback for known in owner.callback_handler.callbacks):
            yield owner, frame.f_locals
        frame = frame.f_back  # type: ignore[assignment]


def come_first(trainer: Trainer | None, callback: TrainerCallback) -> None:
    """Let ``callback`` be called before the others from now on: those that report what it logs and save the model."""
    if trainer is not None:
        callbacks = trainer.callback_handler.callbacks
        callbacks.remove(callback)
        callbacks.insert(0, callback)


def default_guard(arguments: TrainingArguments, state: TrainerState, *, last_iterate: bool) -> CollapseGuard:
    """A guard on a budget: at most a quarter of all samples of the training are drawn for evaluations.

    It evaluates when the trainer does (``eval_steps``, or every epoch), else about ``DEFAULT_EVALUATIONS`` times.
    """
    once_each = max(1, int(getattr(arguments, "num_iterations", 1) or 1))  # TRL: updates on the same completions
    drawn = arguments.train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size // once_each
    strategy = str(getattr(arguments.eval_strategy, "value", arguments.eval_strategy))
    every = max(BUDGET_EVERY, math.ceil(state.max_steps / DEFAULT_EVALUATIONS))
    if strategy == "steps":
        every = max(1, int(state.eval_steps or arguments.eval_steps or every))
    elif strategy == "epoch" and state.num_train_epochs:
        every = max(1, math.ceil(state.max_steps / state.num_train_epochs))
    return CollapseGuard(evaluation="budget", train_samples=max(1, drawn), every=every, last_iterate=last_iterate)


def checkpoint_folder(arguments: TrainingArguments, state: TrainerState) -> Path:
    """The folder of the checkpoint of this step; in a search over hyperparameters the newest, one per trial."""
    output, name = Path(str(arguments.output_dir)), f"checkpoint-{state.global_step}"
    found = [folder for folder in output.glob(f"*/{name}") if folder.is_dir()] if state.is_hyper_param_search else []
    return max(found, key=lambda folder: folder.stat().st_mtime, default=output / name)


def save_policy(trainer: Trainer | None, model: Any, folder: Path) -> bool:
    """Write the model as it is, for ``from_pretrained``; whether that was possible."""
    if trainer is not None:
        trainer.save_model(str(folder), _internal_call=True)
        return True
    if not hasattr(model, "save_pretrained"):
        return False
    model.save_pretrained(folder)
    return True


@runtime_checkable
class BoundsSteps(Protocol):
    """A callback that bounds the size of steps, for which the learning rate is a consequence."""

    @property
    def took_step(self) -> bool: ...
    def soften(self, factor: float, *, moments_reset: bool) -> None: ...


def loss_scale(optimizer: Any) -> float:
    """What losses are multiplied by in fp16 training. A step that the scaler skips, since its gradient overflowed,
    lowers it; accelerate's ``step_was_skipped`` does not know of those that a fused optimizer skips itself."""
    scaler = getattr(optimizer, "scaler", None)
    return 1.0 if scaler is None else float(scaler.get_scale())


def soften(optimizer: Any, scheduler: Any, decision: Decision, callbacks: Iterable[Any] = ()) -> None:
    """Forget the moments, and scale the learning rate now and for the rest of the schedule.

    Where one of ``callbacks`` bounds the size of steps, its limit is scaled instead: it would restore the rate.
    """
    if optimizer is None:
        return
    if decision.reset_optimizer:
        _innermost_optimizer(optimizer).state.clear()
    bounding = [callback for callback in callbacks if isinstance(callback, BoundsSteps)]
    for callback in bounding:
        callback.soften(decision.lr_factor, moments_reset=decision.reset_optimizer)
    if not bounding:
        scale_rate(optimizer, scheduler, decision.lr_factor)


def scale_rate(optimizer: Any, scheduler: Any, factor: float, rates: tuple[float, float] = (0.0, math.inf)) -> None:
    """Multiply the learning rate, now and for the rest of the schedule; its base is not moved out of ``rates``."""
    optimizer = _innermost_optimizer(optimizer)
    while hasattr(scheduler, "scheduler"):
        scheduler = scheduler.scheduler
    base = max(float(group.get("initial_lr", group["lr"])) for group in optimizer.param_groups)
    if base > 0:
        factor = max(min(factor, rates[1] / base), 1.0) if factor > 1 else min(max(factor, rates[0] / base), 1.0)
    for group in optimizer.param_groups:
        group["lr"] *= factor
        if "initial_lr" in group:
            group["initial_lr"] *= factor
    if scheduler is not None and hasattr(scheduler, "base_lrs"):
        scheduler.base_lrs = [lr * factor for lr in scheduler.base_lrs]


def _innermost_optimizer(optimizer: Any) -> Any:
    while hasattr(optimizer, "optimizer"):  # accelerate wraps it
        optimizer = optimizer.optimizer
    return optimizer


def rank_and_world() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
