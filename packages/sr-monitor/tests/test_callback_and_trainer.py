"""The callback and what else acts in a transformers ``Trainer``: loss scaling, other callbacks, used folders."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

import torch
import transformers
from overshooter import TASKS, Overshooter, evaluate, guarded, trainer

from sr_monitor import CollapseGuard, MonitorError
from sr_monitor.integrations.step_size import StepSizeCallback
from sr_monitor.integrations.transformers import CollapseGuardCallback

pytestmark = pytest.mark.usefixtures("one_thread")


def unmoved(**options: Any) -> CollapseGuardCallback:
    """With a guard that never acts on an evaluation."""
    return guarded(guard=CollapseGuard(max_rollbacks=3, margin=0.9), **options)


def at_steps(*steps: int, value: float) -> type[transformers.Trainer]:
    """A trainer whose gradients are ``value`` at these steps."""

    class Spoiling(transformers.Trainer):  # type: ignore[misc]
        def training_step(self, model: Any, *given: Any, **named: Any) -> Any:
            loss = super().training_step(model, *given, **named)
            if self.state.global_step + 1 in steps:
                for parameter in model.parameters():
                    if parameter.grad is not None:
                        parameter.grad.fill_(value)
            return loss

    return Spoiling


def actions(callback: CollapseGuardCallback) -> list[tuple[int, str]]:
    return [(step, decision.rule) for step, decision in callback.decisions if decision.action != "continue"]


# -- steps that are not taken ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("scaled", "optim"), [(True, "adamw_torch_fused"), (True, "adamw_torch"), (False, "sgd")])
def test_a_step_that_loss_scaling_skips_is_not_held_against_the_policy(
    tmp_path: Path, scaled: bool, optim: str
) -> None:
    callback = unmoved()
    run = trainer(tmp_path, callback, 6, optim=optim)
    run.__class__ = at_steps(1, 2, value=float("inf"))
    if scaled:  # as accelerate sets it up for fp16=True, which needs a GPU
        run.accelerator.scaler, run.accelerator.native_amp = torch.amp.GradScaler("cpu", init_scale=1024.0), True
    run.train()
    assert (run.state.global_step, bool(actions(callback))) == (6, not scaled)
    if scaled:
        logged = [row for row in run.state.log_history if "grad_norm" in row]
        assert [math.isfinite(row["grad_norm"]) for row in logged] == [False] * 2 + [True] * 4
        assert {row["learning_rate"] for row in logged} == {0.12}
        assert run.model.level.item() > 0


def test_a_step_that_the_step_size_callback_drops_is_not_held_against_the_policy(tmp_path: Path) -> None:
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(vocab_size=8, num_key_value_heads=2, **sizes))
    measured = StepSizeCallback()
    callback = CollapseGuardCallback(
        evaluate=lambda model, samples, tasks: [samples // 2] * len(tasks), tasks=TASKS, guard=CollapseGuard()
    )
    arguments = trainer(tmp_path, None, 5).args
    row = {"input_ids": torch.tensor([1, 2, 3, 4]), "labels": torch.tensor([1, 2, 3, 4])}
    run = at_steps(2, value=float("nan"))(model, arguments, train_dataset=[row] * 8, callbacks=[callback, measured])
    with pytest.warns(RuntimeWarning, match="step 2 is not taken"):
        run.train()
    assert (actions(callback), measured.dropped, measured.limit_factor) == ([], 1, 1.0)


def test_weights_that_are_not_finite_before_training_are_refused(tmp_path: Path) -> None:
    run = trainer(tmp_path, guarded(), 4)
    run.model.level.data.fill_(float("nan"))
    with pytest.raises(MonitorError, match="not finite before training"):
        run.train()


# -- other callbacks -------------------------------------------------------------------------------------------------


def test_callbacks_that_save_the_model_at_the_end_find_the_kept_policy_in_it_and_all_metrics_logged(
    tmp_path: Path,
) -> None:
    class Service(transformers.TrainerCallback):  # type: ignore[misc]
        """As W&B with ``WANDB_LOG_MODEL=end``, or MLflow, which ends its run here."""

        def __init__(self) -> None:
            self.logged: set[str] = set()
            self.ended: float | None = None

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **given: Any) -> None:
            assert self.ended is None
            self.logged |= set(logs)

        def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            self.ended = given["model"].level.item()

    service, callback = Service(), guarded()
    run = trainer(tmp_path, service, 30)
    run.add_callback(callback)
    run.train()
    assert callback.guard.kept() < 30
    assert service.ended == run.model.level.item()
    assert {"eval_heldout_pass1", "eval_heldout_kept_step"} <= service.logged


@pytest.mark.parametrize(
    ("average", "budget", "last"), [(False, False, 8), (False, False, 6), (True, False, 8), (False, True, 8)]
)
def test_a_training_that_another_callback_ends_early_ends_with_what_it_has_learned(
    tmp_path: Path, average: bool, budget: bool, last: int
) -> None:
    class Ending(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            control.should_training_stop = state.global_step >= last

    guard = None if budget else CollapseGuard(every=3, last_iterate=average)
    callback = CollapseGuardCallback(evaluate=evaluate, tasks=TASKS, guard=guard, average=average)
    run = trainer(tmp_path, callback, 40, batch=16)
    run.add_callback(Ending())
    run.train()
    assert run.model.level.item() == pytest.approx(0.12 * last, abs=1e-4)  # the last is the best so far
    assert [step for step, _ in callback.decisions] == list(range(last + 1))


def test_evaluations_leave_the_random_numbers_of_numpy_and_python_and_repeat_their_own(tmp_path: Path) -> None:
    drawn: list[tuple[float, float]] = []
    own: list[list[tuple[float, float]]] = []

    class Drawing(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *given: Any, **named: Any) -> None:
            drawn.append((random.random(), np.random.rand()))

    def drawing(model: Overshooter, samples: int, tasks: Sequence[int]) -> list[int]:
        own[-1].append((random.random(), np.random.rand()))
        return evaluate(model, samples, tasks)

    for guards in (False, True, True):
        own.append([])
        callback = CollapseGuardCallback(evaluate=drawing, tasks=TASKS, guard=CollapseGuard(margin=0.9))
        run = trainer(tmp_path, callback if guards else None, 3)
        run.add_callback(Drawing())
        run.train()
    assert drawn[:3] == drawn[3:6] == drawn[6:]
    assert own[1] == own[2]
    assert len(set(own[1])) > 3


# -- folders ---------------------------------------------------------------------------------------------------------


def test_checkpoints_hold_the_weights_of_their_own_run_in_a_folder_that_another_has_used(tmp_path: Path) -> None:
    trainer(tmp_path, unmoved(save_kept=False), 3, save_strategy="steps", save_steps=1).train()
    (tmp_path / "collapse_guard").mkdir(exist_ok=True)
    torch.save({"level": torch.tensor(9.0)}, tmp_path / "collapse_guard" / "step-0.pt")  # as of a run that was killed
    run = trainer(tmp_path, unmoved(), 3, save_strategy="steps", save_steps=1)
    run.model.level.data.fill_(0.5)
    run.train()
    start = [torch.load(file)["level"].item() for file in tmp_path.glob("checkpoint-*/collapse_guard/step-0.pt")]
    assert start
    assert set(start) == {0.5}


def test_a_resumed_guard_is_that_of_the_checkpoint_wherever_it_lies(tmp_path: Path) -> None:
    options = {"save_strategy": "steps", "save_steps": 4}
    first = guarded()
    trainer(tmp_path / "runs", first, 8, **options).train()
    trainer(tmp_path / "runs" / "newer", guarded(), 4, **options).train()
    whole = [found for found in first.decisions if found[0] > 4]
    for folder in (tmp_path / "runs", tmp_path / "elsewhere"):
        again = guarded()
        resumed = trainer(folder, again, 8)
        resumed.model.level.data.fill_(7.0)  # is loaded
        resumed.train(resume_from_checkpoint=str(tmp_path / "runs" / "checkpoint-4"))
        assert again.decisions == whole


# -- what is refused -------------------------------------------------------------------------------------------------


def test_what_shards_weights_or_has_copies_of_them_is_refused(tmp_path: Path) -> None:
    class Launched(transformers.Trainer):  # type: ignore[misc]
        """As ``accelerate launch`` sets it up, with nothing of it in the arguments."""

        def create_accelerator_and_postprocess(self) -> None:
            super().create_accelerator_and_postprocess()
            self.is_fsdp_enabled = True

    run = trainer(tmp_path, guarded(), 2)
    with pytest.raises(MonitorError, match="FSDP keeps only a part"):
        Launched(Overshooter(), run.args, callbacks=[guarded()])
    run.args.deepspeed = {"zero_optimization": {"stage": 1}}
    with pytest.raises(MonitorError, match="DeepSpeed trains copies of the weights"):
        run.train()
