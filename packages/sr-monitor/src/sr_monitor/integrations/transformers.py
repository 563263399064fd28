"""``CollapseGuardCallback`` for transformers' ``Trainer`` and everything built on it, TRL's ``GRPOTrainer`` included.

    evaluate = GenerationEvaluator(tokenizer=tokenizer, prompts=prompts, passed=passed, max_new_tokens=256)
    GRPOTrainer(..., callbacks=[CollapseGuardCallback(evaluate=evaluate)]).train()

Afterwards the model holds the kept policy, which also lies in ``output_dir/collapse_guard/kept``. Full fine-tuning and
LoRA (only trainable parameters are held), one process or several with whole copies of the model (DDP). Sharded weights
(FSDP) and DeepSpeed, whose optimizer has weights of its own, are refused. A rollback leaves a reference policy that
follows the trained one (TRL's ``sync_ref_model``) where it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sr_monitor.analysis.counts import Counts
from sr_monitor.errors import MonitorError
from sr_monitor.guard.collapse_guard import CollapseGuard
from sr_monitor.guard.decision import LAST_ITERATE, Decision, Guard
from sr_monitor.integrations.checks import refuse_deepspeed, refuse_encoder_decoder, refuse_sharded
from sr_monitor.integrations.generation import GenerationEvaluator
from sr_monitor.integrations.measuring import Evaluate, EvaluationFailed, measure
from sr_monitor.integrations.run_log import RunLog
from sr_monitor.integrations.trainer import (
    BoundsSteps,
    calling_trainer,
    checkpoint_folder,
    come_first,
    default_guard,
    loss_scale,
    rank_and_world,
    resumed_checkpoint,
    save_policy,
    soften,
)
from sr_monitor.integrations.weights import RetainedWeights, WeightAverage, Weights, copied, paste, trainable

__all__ = ["CollapseGuardCallback", "GenerationEvaluator"]

FOLDER = "collapse_guard"
STATE_FILE = "collapse_guard.pt"
# So many evaluations in a row may fail, each of them tried twice, before the training ends with the error.
MAX_FAILURES = 3
_LOGGED_SIGNALS = {"loss": "loss", "grad_norm": "grad_norm", "reward": "train_reward"}  # as TRL logs them


class CollapseGuardCallback(TrainerCallback):
    """Evaluates on held-out tasks when the guard asks, rolls back or stops when it says so, ends with the kept policy.

    evaluate: called as ``evaluate(model, samples, tasks)`` with task indices, returns how many of ``samples``
    completions of each passed (see ``GenerationEvaluator``). It runs under random numbers of its own, so that asking
    does not change the training. tasks: number of held-out tasks; left out, those of the evaluator.
    guard: left out, a ``CollapseGuard`` on a budget, which draws at most a quarter of all samples for evaluations and
    evaluates at the trainer's ``eval_steps``, or about 40 times.
    hold: where the few policies the guard may return to live, ``memory`` (of the host) or ``disk``. average: measure,
    hold and end with the mean of the weights since the start or the last rollback, while training goes on from the
    last ones; it costs a copy of them to host memory per step, and the last weights are a candidate at the end, too.
    seed: of the evaluations. save_kept: write the kept policy at the end to ``output_dir/collapse_guard/kept``.

    Every evaluation is logged as ``eval_heldout_pass1`` through the trainer, every action printed. decisions: list of
    (step, Decision). evaluated_samples, failed_evaluations: how many. An evaluation that fails is tried twice, then
    left out; the first one, or the third in a row, ends the training with its error.

    The guard's state and the held weights belong to every checkpoint and are found again in the one that training
    resumes from, or in ``resume_from``. At a checkpoint without them a guard begins anew.
    """

    def __init__(
        self,
        *,
        evaluate: Evaluate,
        tasks: int | None = None,
        guard: Guard | None = None,
        hold: Literal["memory", "disk"] = "memory",
        average: bool = False,
        seed: int = 0,
        resume_from: Path | str | None = None,
        save_kept: bool = True,
    ) -> None:
        if hold not in ("memory", "disk"):
            raise MonitorError(f"callback: hold must be memory or disk, got {hold!r}")
        if isinstance(guard, CollapseGuard) and guard.last_iterate and not average:
            raise MonitorError("callback: a guard with last_iterate=True compares it with means; set average=True")
        self.tasks = _task_count(tasks, evaluate)
        self.evaluate, self.seed, self.save_kept = evaluate, seed, save_kept
        self.hold, self.resume_from = hold, resume_from
        self.decisions: list[tuple[int, Decision]] = []
        self.evaluated_samples = self.failed_evaluations = 0
        self.average = WeightAverage() if average else None
        self._given, self._guard = guard, guard
        self._log = RunLog(None, TrainerState())
        self._held = RetainedWeights(Path(FOLDER), on_disk=hold == "disk", writes=False)
        self._last: Weights | None = None  # the last weights, where they are kept beside means
        self._logged: dict[str, float] = {}
        self._pass1: dict[int, float] = {}  # of every step, as last measured in an evaluation that was due
        self._undone = -1  # the last step that was rolled back
        self._took_step, self._scale = True, 1.0
        self._failures = 0  # evaluations in a row
        self._trainings = self._budget = self._steps = 0

    @property
    def guard(self) -> Guard:
        """The guard; where none was given, it exists from the beginning of the training on."""
        if self._guard is None:
            raise MonitorError("callback: the guard is chosen when training begins; pass guard= to have it before")
        return self._guard

    # -- what transformers calls -------------------------------------------------------------------------------

    def on_init_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._refuse(args, kwargs.get("model"))

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._refuse(args, kwargs["model"])
        self._log = RunLog(calling_trainer(self), state)
        if isinstance(self.evaluate, GenerationEvaluator):
            self.evaluate.use(self._log.trainer)
        if self._given is None:
            self._guard = default_guard(args, state, last_iterate=self.average is not None)
        come_first(self._log.trainer, self)
        self._took_step, self._scale = True, loss_scale(kwargs.get("optimizer"))
        folder = Path(str(args.output_dir)) / FOLDER
        self._held = RetainedWeights(folder, on_disk=self.hold == "disk", writes=rank_and_world()[0] == 0)
        self._held.clear()
        if state.global_step and self._resume(args, state, kwargs["model"]):
            return
        if self.average is not None:
            self.average = WeightAverage()
        self._logged, self._pass1, self._undone, self._failures, self._steps = {}, {}, -1, 0, state.max_steps
        self._budget = self.guard.begin(self._trainings, state.max_steps, self.tasks)
        if self._given is None and isinstance(chosen := self.guard, CollapseGuard):
            drawn = chosen.train_samples * state.max_steps
            self._log.say(
                f"evaluates every {chosen.every} steps, {chosen.share:.0%} of all samples at most "
                f"(training draws {drawn}); guard=CollapseGuard() evaluates everything after every step"
            )
        self._trainings += 1
        self._after_step(state.global_step, control, kwargs)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        before, self._scale = self._scale, loss_scale(kwargs.get("optimizer"))
        bounding = [callback for callback in self._log.callbacks if isinstance(callback, BoundsSteps)]
        self._took_step = self._scale >= before and all(callback.took_step for callback in bounding)
        self._after_step(state.global_step, control, kwargs)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Where another callback or the data end the training early, its last policy is evaluated as the last."""
        stopped = bool(self.decisions) and self.decisions[-1][1].action == "stop"
        if not control.should_training_stop or stopped or not isinstance(self.guard, CollapseGuard):
            return
        if state.global_step < self._steps:
            self._prolong(state.global_step)
            self._after_step(state.global_step, control, kwargs, again=True)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if state.global_step == self._undone:  # what led to a rollback is no news of the policy after it
            return
        found = {signal: (logs or {}).get(name) for name, signal in _LOGGED_SIGNALS.items()}
        if not self._took_step:  # a gradient that overflowed and was dropped has broken nothing
            found["grad_norm"] = None
        self._logged |= {name: float(value) for name, value in found.items() if isinstance(value, int | float)}

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        folder = checkpoint_folder(args, state)
        # the checkpoint itself has the weights of its step
        own = self.average is None and self._undone != state.global_step
        linked = [step for step in self._held if not (own and step == state.global_step)]
        self._held.link_into(folder / FOLDER, linked)
        saved = {
            "guard": self.guard.state_dict(),
            "held": linked,
            "own": own and state.global_step in self._held,
            "budget": self._budget,
            "steps": self._steps,
            "logged": self._logged,
            "pass1": self._pass1,
        }
        torch.save(
            saved if self.average is None else saved | {"average": self.average.state_dict()}, folder / STATE_FILE
        )

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        kept, log = self.guard.kept(), self._log
        if kept in self._held:
            paste(kwargs["model"], self._held.get(kept))
        elif kept == LAST_ITERATE and self._last is not None:  # load_best_model_at_end may have loaded others
            paste(kwargs["model"], self._last)
        log.kept(kept, self._pass1.get(state.global_step if kept == LAST_ITERATE else kept), args)
        _wait_for_all()  # they may still read it
        self._held.clear()
        self._last = None
        if self.save_kept and save_policy(log.trainer, kwargs["model"], self._held.folder / "kept"):
            log.say(f"wrote it to {self._held.folder / 'kept'}")

    # -- one step ----------------------------------------------------------------------------------------------

    def _after_step(self, step: int, control: TrainerControl, given: dict[str, Any], *, again: bool = False) -> None:
        model = given["model"]
        finite = all(bool(torch.isfinite(p).all()) for p in trainable(model).values())
        if finite:  # what cannot be sampled from needs no evaluation to be judged
            if self.average is not None and not again:
                self.average.add(model) if self.average.count else self.average.begin(model)
            self._answer(model, step)
        elif not list(self._held):
            raise MonitorError("callback: weights of the model are not finite before training; load others")
        decision = self.guard.decide(step, {**self._logged, "finite": float(finite)})
        self._logged = {}
        self.decisions[-1 if again else len(self.decisions) :] = [(step, decision)]
        wanted = self.guard.retained() | {self.guard.kept()}
        if step in wanted and step not in self._held:
            with self._averaged(model):
                self._held.put(step, copied(model))
            _wait_for_all()
        if decision.action != "continue":
            self._log.action(step, decision)
        if decision.action == "roll_back":
            self._roll_back(model, step, decision, given)
        if decision.action == "stop" or (0 < self._budget <= step):
            control.should_training_stop = True
        self._last = copied(model) if self.guard.kept() == LAST_ITERATE else None
        self._held.drop(set(self._held) - wanted)

    def _roll_back(self, model: Any, step: int, decision: Decision, given: dict[str, Any]) -> None:
        self._undone = step
        paste(model, self._held.get(decision.to_step if decision.to_step is not None else step))
        if self.average is not None:
            self.average.begin(model)
        trainer: Any = self._log.trainer
        if hasattr(trainer, "_buffered_inputs"):
            trainer._buffered_inputs = None  # TRL's: completions of the policy that is gone
        soften(given.get("optimizer"), given.get("lr_scheduler"), decision, self._log.callbacks)

    def _answer(self, model: Any, step: int) -> None:
        asked: Counter[int] = Counter()
        while (request := self.guard.ask(step)) is not None:
            tasks = tuple(range(self.tasks)) if request.tasks is None else tuple(request.tasks)
            # evaluated again, policies are drawn with the same random numbers, so that less of a difference is luck
            turn = asked[request.step] + (request.step != step)
            asked[request.step] += 1
            key = (self.seed, step, turn)
            try:
                with self._averaged(model) if request.step == step else self._of(model, request.step):
                    passes = measure(self.evaluate, model, request.samples, tasks, key, self._log.say)
            except EvaluationFailed as error:
                self._failed(step, error)
                return
            self._failures = 0
            self.guard.tell(request.step, passes, request.samples, request.tasks)
            self.evaluated_samples += request.samples * len(tasks)
            if not request.fresh:
                counts = Counts.of(passes, request.samples)
                self._pass1[step] = counts.pass1
                self._log.evaluation(counts)

    def _failed(self, step: int, error: EvaluationFailed) -> None:
        """The guard decides without this evaluation; if there never was one, or too many fail, nobody guards."""
        self.failed_evaluations += 1
        self._failures += 1
        if not self._pass1 or self._failures >= MAX_FAILURES:
            raise MonitorError(
                f"callback: evaluations fail, {self._failures} in a row by step {step} ({error}); repair evaluate, "
                "then resume from the last checkpoint"
            ) from error
        self._log.say(f"step {step}: the evaluation failed twice and is left out ({error})")

    # -- weights -----------------------------------------------------------------------------------------------

    @contextmanager
    def _averaged(self, model: Any) -> Iterator[None]:
        """The model with the weights that are measured and held: their mean, where there is one."""
        if self.average is None:
            yield
            return
        with _instead(model, self.average.weights):
            yield

    @contextmanager
    def _of(self, model: Any, step: int) -> Iterator[None]:
        """The model with the weights held of ``step``; ``LAST_ITERATE`` are those it has."""
        if step == LAST_ITERATE:
            yield
            return
        with _instead(model, self._held.get(step)):
            yield

    # -- persistence -------------------------------------------------------------------------------------------

    def _resume(self, args: TrainingArguments, state: TrainerState, model: Any) -> bool:
        """Go on where the guard stood at this checkpoint; False where there was none, and one begins here."""
        folder = Path(self.resume_from or resumed_checkpoint(self) or checkpoint_folder(args, state))
        path = folder / STATE_FILE
        if not folder.is_dir():
            raise MonitorError(f"callback: {folder} is missing; name the checkpoint's folder with resume_from=")
        if not path.exists():
            self._log.say(f"{folder.name} was saved without a guard; one begins at step {state.global_step}")
            return False
        saved = torch.load(path, map_location="cpu", weights_only=True)
        if self.average is not None:
            if "average" not in saved:
                raise MonitorError(f"callback: {path} is of a run without means, resume it with average=False")
            self.average.load_state_dict(saved["average"])
        self.guard.load_state_dict(saved["guard"])
        self._budget, self._logged, self._pass1 = saved["budget"], saved["logged"], saved["pass1"]
        self._held.load_from(folder / FOLDER, saved["held"])
        if saved["own"]:
            self._held.put(state.global_step, copied(model))
        _wait_for_all()
        self._steps = saved["steps"]
        if state.max_steps != self._steps:
            self._prolong(state.max_steps)
        return True

    def _prolong(self, steps: int) -> None:
        if not isinstance(self.guard, CollapseGuard):
            raise MonitorError(
                f"callback: a {type(self.guard).__name__} cannot go on with max_steps={steps} what it began with "
                f"{self._steps}; resume with the same max_steps"
            )
        self._steps, self._budget = steps, self.guard.prolong(steps)

    def _refuse(self, args: TrainingArguments, model: Any) -> None:
        if model is None:
            return
        trainer = calling_trainer(self)
        refuse_sharded(model, args, trainer)
        refuse_deepspeed(
            args, trainer, "trains copies of the weights in its optimizer, which a rollback does not reach; use DDP"
        )
        if isinstance(self.evaluate, GenerationEvaluator):
            refuse_encoder_decoder(model)


def _task_count(tasks: int | None, evaluate: Evaluate) -> int:
    known = len(evaluate.prompts) if isinstance(evaluate, GenerationEvaluator) else None
    if tasks is None and known is None:
        raise MonitorError("callback: tasks is missing; pass the number of held-out tasks")
    number = known if tasks is None else tasks
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise MonitorError(f"callback: tasks must be a number of at least 1, got {number!r}; pass len(prompts)")
    if known is not None and number != known:
        raise MonitorError(f"callback: tasks is {number}, and the evaluator has {known} prompts; leave tasks out")
    return number


@contextmanager
def _instead(model: Any, weights: Weights) -> Iterator[None]:
    """The model with other ``weights`` for a while."""
    current = copied(model)
    paste(model, weights)
    try:
        yield
    finally:
        paste(model, current)


def _wait_for_all() -> None:
    if rank_and_world()[1] > 1:
        torch.distributed.barrier()
