"""``CollapseGuardCallback`` for transformers' ``Trainer`` and everything built on it, TRL's ``GRPOTrainer`` included.

    callback = CollapseGuardCallback(evaluate=evaluate, tasks=len(heldout))
    GRPOTrainer(..., callbacks=[callback]).train()  # afterwards the model holds the policy to hand on

Full fine-tuning and LoRA (only trainable parameters are held), one process or several with whole copies of the model
(DDP). It does not handle sharded weights (FSDP, ZeRO-3), and completions that a trainer has already buffered when the
guard rolls back are still trained on.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sr_monitor.errors import MonitorError
from sr_monitor.guard.collapse_guard import CollapseGuard
from sr_monitor.guard.decision import LAST_ITERATE, Decision, Guard
from sr_monitor.integrations.generation import GenerationEvaluator
from sr_monitor.integrations.weights import Mean, Weights, copied, paste, trainable

__all__ = ["CollapseGuardCallback", "GenerationEvaluator"]

Evaluate = Callable[[Any, int, Sequence[int]], Sequence[int]]

STATE_FILE = "collapse_guard.pt"
_LOGGED_SIGNALS = {"loss": "loss", "grad_norm": "grad_norm", "reward": "train_reward"}  # as TRL logs them


class CollapseGuardCallback(TrainerCallback):
    """Evaluates on held-out tasks when the guard asks, rolls back or stops when it says so, ends with the kept policy.

    evaluate: called as ``evaluate(model, samples, tasks)`` with task indices, returns how many of ``samples``
    completions of each passed (see ``GenerationEvaluator``). It runs under random numbers of its own, so that asking
    does not change the training. tasks: number of held-out tasks. guard: default ``CollapseGuard()``.
    hold: where the few checkpoints the guard may return to live, ``memory`` (of the host) or ``disk`` (under
    ``output_dir``). average: measure, hold and end with the mean of the weights since the start or the last roll-back,
    while training goes on from the last ones; it costs a copy of them to host memory per step. A mean lags behind a
    long steady rise, so the default guard, and one with ``last_iterate=True``, has the last weights as a candidate at
    the end, too. seed: of the evaluations. decisions: list of (step, Decision), for the caller.

    The guard's state and the held weights are written into every checkpoint, and found again when training resumes
    from ``output_dir/checkpoint-N``; a checkpoint that lies elsewhere is named by ``resume_from``.
    """

    def __init__(
        self,
        *,
        evaluate: Evaluate,
        tasks: int,
        guard: Guard | None = None,
        hold: Literal["memory", "disk"] = "memory",
        average: bool = False,
        seed: int = 0,
        resume_from: Path | str | None = None,
    ) -> None:
        if tasks < 1:
            raise MonitorError(f"callback: tasks must be at least 1, got {tasks}")
        if hold not in ("memory", "disk"):
            raise MonitorError(f"callback: hold must be memory or disk, got {hold!r}")
        if getattr(guard, "last_iterate", False) and not average:
            raise MonitorError("callback: a guard with last_iterate=True compares it with means; set average=True")
        self.guard: Any = CollapseGuard(last_iterate=average) if guard is None else guard
        self.evaluate, self.tasks, self.seed = evaluate, tasks, seed
        self.hold, self.resume_from = hold, resume_from
        self.mean = Mean() if average else None
        self.decisions: list[tuple[int, Decision]] = []
        self.evaluated_samples = 0
        self._held: dict[int, Weights | Path] = {}
        self._logged: dict[str, float] = {}
        self._undone = -1  # the last step that was rolled back
        self._trainings = self._budget = self._steps = 0

    # -- what transformers calls -------------------------------------------------------------------------------

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._folder = _output(args) / "collapse_guard"
        if state.global_step:
            self._resume(args, state)
            return
        for old in list(self._held):  # of a training before this one
            self._drop(old)
        self.mean = None if self.mean is None else Mean()
        self._logged, self._undone, self._steps = {}, -1, state.max_steps
        self._budget = self.guard.begin(self._trainings, state.max_steps)
        self._trainings += 1
        self._after_step(args, 0, control, kwargs)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._after_step(args, state.global_step, control, kwargs)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if state.global_step == self._undone:  # what led to a roll-back is no news of the policy after it
            return
        found = {signal: (logs or {}).get(name) for name, signal in _LOGGED_SIGNALS.items()}
        self._logged |= {name: float(value) for name, value in found.items() if isinstance(value, int | float)}

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            target = _output(args) / f"checkpoint-{state.global_step}" / STATE_FILE
            held = {step: self._weights(step) for step in self._held}
            saved = {
                "guard": self.guard.state_dict(),
                "held": held,
                "budget": self._budget,
                "steps": self._steps,
                "logged": self._logged,
            }
            torch.save(saved if self.mean is None else saved | {"mean": self.mean.state_dict()}, target)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        kept = self.guard.kept()
        if kept in self._held:
            self._load(kwargs["model"], kept)

    # -- one step ----------------------------------------------------------------------------------------------

    def _after_step(self, args: TrainingArguments, step: int, control: TrainerControl, given: dict[str, Any]) -> None:
        model = given["model"]
        finite = all(bool(torch.isfinite(p).all()) for p in trainable(model).values())
        if finite:  # what cannot be sampled from needs no evaluation to be judged
            if self.mean is not None:
                self.mean.add(model) if self.mean.count else self.mean.begin(model)
            self._answer(model, step)
        decision = self.guard.decide(step, {**self._logged, "finite": float(finite)})
        self._logged = {}
        self.decisions.append((step, decision))
        wanted = self.guard.retained() | {self.guard.kept()}
        if step in wanted and step not in self._held:
            with self._averaged(model):
                self._hold(model, step)
        if decision.action == "roll_back":
            self._undone = step
            self._load(model, decision.to_step)
            if self.mean is not None:
                self.mean.begin(model)
            _soften(given.get("optimizer"), given.get("lr_scheduler"), decision)
        if decision.action == "stop" or (0 < self._budget <= step):
            control.should_training_stop = True
        for old in set(self._held) - wanted:
            self._drop(old)

    def _answer(self, model: Any, step: int) -> None:
        asked: Counter[int] = Counter()
        while (request := self.guard.ask(step)) is not None:
            tasks = tuple(range(self.tasks)) if request.tasks is None else tuple(request.tasks)
            # looked at again, policies are drawn with the same random numbers, so that less of a difference is luck
            turn = asked[request.step] + (request.step != step)
            asked[request.step] += 1
            with self._averaged(model) if request.step == step else self._of(model, request.step):
                passes = self._measure(model, request.samples, tasks, (self.seed, step, turn))
            self.guard.tell(request.step, passes, request.samples, request.tasks)
            self.evaluated_samples += request.samples * len(tasks)

    def _measure(self, model: Any, samples: int, tasks: tuple[int, ...], key: tuple[int, ...]) -> list[int]:
        """Passing counts in the order of ``tasks``; every process evaluates its share."""
        rank, world = _rank_and_world()
        mine = tasks[rank::world]
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        training = model.training
        model.eval()
        with torch.random.fork_rng(devices), torch.no_grad():
            torch.manual_seed(int(np.random.SeedSequence([*key, rank]).generate_state(1, np.uint64)[0] >> 1))
            counts = [int(count) for count in self.evaluate(model, samples, mine)] if mine else []
        model.train(training)
        if len(counts) != len(mine):
            raise MonitorError(f"callback: evaluate must return a count per task, got {len(counts)} for {len(mine)}")
        shares: list[list[int]] = [counts]
        if world > 1:
            shares = [[] for _ in range(world)]
            torch.distributed.all_gather_object(shares, counts)
        return [shares[place % world][place // world] for place in range(len(tasks))]

    @contextmanager
    def _averaged(self, model: Any) -> Iterator[None]:
        """The model with the weights that are measured and held: the mean, where there is one."""
        if self.mean is None:
            yield
            return
        with _instead(model, self.mean.weights):
            yield

    @contextmanager
    def _of(self, model: Any, step: int) -> Iterator[None]:
        """The model with the weights held of ``step``; ``LAST_ITERATE`` are those it has."""
        if step == LAST_ITERATE:
            yield
            return
        self._check_held(step)
        with _instead(model, self._weights(step)):
            yield

    # -- weights -----------------------------------------------------------------------------------------------

    def _hold(self, model: Any, step: int) -> None:
        if self.hold == "memory":
            self._held[step] = copied(model)
            return
        path = self._folder / f"step-{step}.pt"
        if _rank_and_world()[0] == 0:
            self._folder.mkdir(parents=True, exist_ok=True)
            unfinished = path.with_suffix(".tmp")
            torch.save(copied(model), unfinished)
            os.replace(unfinished, path)
        _wait_for_all()
        self._held[step] = path

    def _weights(self, step: int) -> Weights:
        held = self._held[step]
        if isinstance(held, Path):
            loaded: Weights = torch.load(held, map_location="cpu", weights_only=True)
            return loaded
        return held

    def _load(self, model: Any, step: int) -> None:
        self._check_held(step)
        paste(model, self._weights(step))

    def _check_held(self, step: int) -> None:
        if step not in self._held:
            raise MonitorError(f"callback: step {step} is not held; a guard may name steps in {sorted(self._held)}")

    def _drop(self, step: int) -> None:
        held = self._held.pop(step)
        if isinstance(held, Path) and _rank_and_world()[0] == 0:
            held.unlink(missing_ok=True)

    def _resume(self, args: TrainingArguments, state: TrainerState) -> None:
        folder = Path(self.resume_from) if self.resume_from else _output(args) / f"checkpoint-{state.global_step}"
        path = folder / STATE_FILE
        if not path.exists():
            raise MonitorError(f"callback: {path} is missing; name the checkpoint's folder with resume_from=")
        saved = torch.load(path, map_location="cpu", weights_only=True)
        self.guard.load_state_dict(saved["guard"])
        self._budget, self._logged = saved["budget"], saved.get("logged", {})
        if self.mean is not None:
            if "mean" not in saved:
                raise MonitorError(f"callback: {path} is of a run without means, resume it with average=False")
            self.mean.load_state_dict(saved["mean"])
        self._held = dict(saved["held"])
        self._steps = saved.get("steps", self._budget)
        if state.max_steps != self._steps:
            self._prolong(state.max_steps)

    def _prolong(self, steps: int) -> None:
        if not hasattr(self.guard, "prolong"):
            raise MonitorError(
                f"callback: a {type(self.guard).__name__} cannot go on with max_steps={steps} what it began with "
                f"{self._steps}; resume with the same max_steps"
            )
        self._steps, self._budget = steps, self.guard.prolong(steps)


@contextmanager
def _instead(model: Any, weights: Weights) -> Iterator[None]:
    """The model with other ``weights`` for a while."""
    current = copied(model)
    paste(model, weights)
    try:
        yield
    finally:
        paste(model, current)


def _output(args: TrainingArguments) -> Path:
    return Path(str(args.output_dir))


def _soften(optimizer: Any, scheduler: Any, decision: Decision) -> None:
    """Forget the moments, and scale the learning rate now and for the rest of the schedule."""
    while hasattr(optimizer, "optimizer"):  # accelerate wraps it
        optimizer = optimizer.optimizer
    while hasattr(scheduler, "scheduler"):
        scheduler = scheduler.scheduler
    if optimizer is None:
        return
    if decision.reset_optimizer:
        optimizer.state.clear()
    for group in optimizer.param_groups:
        group["lr"] *= decision.lr_factor
        if "initial_lr" in group:
            group["initial_lr"] *= decision.lr_factor
    if scheduler is not None and hasattr(scheduler, "base_lrs"):
        scheduler.base_lrs = [lr * decision.lr_factor for lr in scheduler.base_lrs]


def _rank_and_world() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def _wait_for_all() -> None:
    if _rank_and_world()[1] > 1:
        torch.distributed.barrier()
