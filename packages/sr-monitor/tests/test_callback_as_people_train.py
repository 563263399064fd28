"""The callback in a real transformers ``Trainer``: what it logs, prints, saves, refuses and survives."""

from __future__ import annotations

import os
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

from sr_monitor import CollapseGuard, MonitorError, read_runs
from sr_monitor.integrations.checks import passed_count, passing_counts, refuse_sharded
from sr_monitor.integrations.transformers import CollapseGuardCallback
from sr_monitor.integrations.weights import copied, paste

pytestmark = pytest.mark.usefixtures("one_thread")


# -- what it tells -------------------------------------------------------------------------------------------------


def test_the_log_of_a_run_holds_every_evaluation_and_action_and_is_judged_as_the_guard_decided(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[dict[str, Any]] = []

    class Service(transformers.TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **given: Any) -> None:
            seen.append(dict(logs))

    callback = guarded()
    run = trainer(tmp_path, callback)
    run.add_callback(Service())
    run.train()
    run.save_state()
    told = [row for row in seen if "eval_heldout_pass1" in row]
    assert len(told) == len(callback.decisions)  # this guard evaluates every step
    assert sum("loss" in row for row in seen) == len(callback.decisions) - 1  # what training logs is still logged
    assert all(isinstance(value, int | float) for row in seen for value in row.values())
    actions = [(step, d) for step, d in callback.decisions if d.action != "continue"]
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("CollapseGuard: step")]
    assert len(printed) == len(actions)

    (found,) = read_runs(tmp_path)
    decided = {r.step: (r.decision["action"], r.decision.get("to_step")) for r in found.records if r.decision}
    last = run.state.global_step
    kept = callback.guard.kept()
    assert decided == {s: (d.action, d.to_step) for s, d in actions if s != last} | (
        {last: ("roll_back", kept)} if kept < last else {}
    )
    surviving = found.campaigns[-1].surviving
    assert surviving is not None
    assert surviving.steps[-1] == kept
    assert surviving.se_E is not None


def test_the_kept_policy_lies_where_it_can_be_loaded_from(tmp_path: Path) -> None:
    run = trainer(tmp_path, guarded())
    run.train()
    weights = transformers.modeling_utils.load_state_dict(tmp_path / "collapse_guard" / "kept" / "model.safetensors")
    assert weights["level"].item() == run.model.level.item()
    trainer(tmp_path / "without", guarded(save_kept=False), steps=3).train()
    assert not (tmp_path / "without" / "collapse_guard" / "kept").exists()


@pytest.mark.parametrize("average", [False, True])
def test_the_guards_choice_stands_where_the_trainer_loads_its_own_best_and_says_so(
    tmp_path: Path, average: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    class Scored(transformers.Trainer):  # type: ignore[misc]
        def evaluate(self, *given: Any, **named: Any) -> dict[str, float]:
            metrics = {"eval_reward": -float(self.state.global_step)}
            self.log(metrics)
            return metrics

    options = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2}
    callback = guarded(average=average)
    run = trainer(tmp_path, callback, 6, load_best_model_at_end=True, metric_for_best_model="eval_reward",
                  greater_is_better=True, eval_on_start=False, **options)  # fmt: skip
    run.__class__ = Scored
    levels: list[float] = []

    class Watch(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            levels.append(given["model"].level.item())

    run.add_callback(Watch())
    run.train()
    assert run.state.best_global_step == 2
    assert "chose checkpoint-2 by eval_reward; the guard's choice stands" in capsys.readouterr().out
    if average:
        assert run.model.level.item() == levels[-1]
    else:
        assert run.model.level.item() == pytest.approx([0.0, *levels][callback.guard.kept()])


# -- what it costs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("steps", "batch"), [(40, 16), (100, 4)])
def test_by_default_evaluations_take_at_most_a_quarter_of_all_samples(tmp_path: Path, steps: int, batch: int) -> None:
    callback = CollapseGuardCallback(evaluate=evaluate, tasks=TASKS)
    run = trainer(tmp_path, callback, steps, batch=batch)
    run.train()
    trained = run.state.global_step * batch
    assert callback.evaluated_samples <= 0.25 * (callback.evaluated_samples + steps * batch)
    assert trained >= batch


def test_by_default_the_guard_evaluates_when_the_trainer_does(tmp_path: Path) -> None:
    callback = CollapseGuardCallback(evaluate=evaluate, tasks=TASKS)
    with pytest.raises(MonitorError, match="chosen when training begins"):
        _ = callback.guard.every
    run = trainer(tmp_path, callback, 9, eval_strategy="steps", eval_steps=3, batch=16)
    run.train()
    assert callback.guard.every == 3
    assert [s for s, d in callback.decisions if d.rule != "not_evaluated"] == [0, 3, 6, 9]


def test_checkpoints_share_the_weights_they_hold_and_do_not_repeat_their_own(tmp_path: Path) -> None:
    callback = guarded(guard=CollapseGuard(max_rollbacks=0, margin=0.9))
    run = trainer(tmp_path, callback, 6, save_strategy="steps", save_steps=1)
    run.train()
    held = sorted(tmp_path.glob("checkpoint-*/collapse_guard/step-*.pt"))
    assert len({file.stat().st_ino for file in held}) < len(held)  # of three steps each
    assert len({file.stat().st_ino for file in held}) <= len({file.name for file in held})
    assert not list(tmp_path.glob("checkpoint-3/collapse_guard/step-3.pt"))


# -- what it survives ----------------------------------------------------------------------------------------------


class Failing:
    """``evaluate`` that raises at some of its calls."""

    def __init__(self, *calls: int) -> None:
        self.calls, self.made = set(calls), 0

    def __call__(self, model: Overshooter, samples: int, tasks: Sequence[int]) -> list[int]:
        assert not model.training
        self.made += 1
        if self.made in self.calls:
            raise RuntimeError("sandbox timed out")
        return evaluate(model, samples, tasks)


def failing(*calls: int) -> CollapseGuardCallback:
    return CollapseGuardCallback(evaluate=Failing(*calls), tasks=TASKS, guard=CollapseGuard())


def test_an_evaluation_that_fails_once_is_made_again(tmp_path: Path) -> None:
    callback = failing(3)
    run = trainer(tmp_path, callback, 6)
    run.train()
    assert (run.state.global_step, callback.failed_evaluations) == (6, 0)
    assert "not_evaluated" not in {decision.rule for _, decision in callback.decisions}


def test_an_evaluation_that_fails_twice_is_left_out_counted_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    modes: list[bool] = []

    class Watch(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            modes.append(given["model"].training)

    callback = failing(3, 4)
    run = trainer(tmp_path, callback, 6)
    run.model.train()
    run.add_callback(Watch())
    run.train()
    assert (run.state.global_step, callback.failed_evaluations) == (6, 1)
    assert [step for step, decision in callback.decisions if decision.rule == "not_evaluated"] == [2]
    assert all(modes[1:])
    assert (
        "step 2: the evaluation failed twice and is left out (RuntimeError: sandbox timed out)"
        in capsys.readouterr().out
    )


@pytest.mark.parametrize("calls", [(1, 2), range(3, 99)])
def test_a_training_whose_evaluations_keep_failing_ends_with_their_error(tmp_path: Path, calls: Sequence[int]) -> None:
    run = trainer(tmp_path, failing(*calls), 30)
    with pytest.raises(MonitorError, match="sandbox timed out"):
        run.train()
    assert run.state.global_step < 6


@pytest.mark.parametrize("named", [False, True])
def test_a_guard_begins_at_a_checkpoint_of_a_run_without_one(
    tmp_path: Path, named: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer(tmp_path, None, 4, save_strategy="steps", save_steps=4).train()
    callback = guarded(resume_from=tmp_path / "checkpoint-4" if named else None)
    run = trainer(tmp_path, callback, 30)
    run.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert callback.decisions[0][0] == 4
    assert run.model.pass_rate > 0.88
    assert "saved without a guard; one begins at step 4" in capsys.readouterr().out


def test_a_checkpoint_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    trainer(tmp_path, None, 2, save_strategy="steps", save_steps=1).train()
    callback = guarded(resume_from=tmp_path / "checkpoint-3")
    with pytest.raises(MonitorError, match="resume_from="):
        trainer(tmp_path, callback, 4).train(resume_from_checkpoint=str(tmp_path / "checkpoint-1"))


# -- what it refuses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [[3, 0, 16], (3, 0, 16), np.array([3, 0, 16]), torch.tensor([3, 0, 16]),
                                    [np.int64(3), torch.tensor(0), 16]])  # fmt: skip
def test_counts_come_in_any_kind_of_list(counts: Any) -> None:
    assert passing_counts(counts, 3, 16) == [3, 0, 16]


@pytest.mark.parametrize("counts", [None, 5, "345", [3, 0], [3, 0, 1, 1], [0.5, 0.7, 1.0], [1.0, 2.0, 3.0], [True] * 3,
                                    [3, 0, 17], [3, 0, -1], [3, 0, None], np.array([0.5, 0.1, 0.0]),
                                    torch.rand(3), {0: 3, 1: 0, 2: 1}])  # fmt: skip
def test_what_is_no_count_per_task_is_refused(counts: Any) -> None:
    with pytest.raises(MonitorError, match="evaluate: "):
        passing_counts(counts, 3, 16)


@pytest.mark.parametrize("verdicts", [[True, False], [1, 0], np.array([True, False]), torch.tensor([1, 0]).bool()])
def test_verdicts_come_in_any_kind_of_list(verdicts: Any) -> None:
    assert passed_count(verdicts, 2) == 1


@pytest.mark.parametrize("verdicts", [None, True, [True], [True] * 3, [0.1, 1.0], [1.0, 0.0], [2, 0], "ab",
                                      [None, True], torch.tensor([0.5, 1.0])])  # fmt: skip
def test_what_is_no_verdict_per_completion_is_refused(verdicts: Any) -> None:
    with pytest.raises(MonitorError, match="passed: "):
        passed_count(verdicts, 2)


@pytest.mark.parametrize("answer", [[0.5] * TASKS, None, [1]])
def test_a_wrong_answer_ends_the_training_at_once(tmp_path: Path, answer: Any) -> None:
    run = trainer(tmp_path, CollapseGuardCallback(evaluate=lambda model, samples, tasks: answer, tasks=TASKS), steps=3)
    with pytest.raises(MonitorError, match="evaluate: "):
        run.train()
    assert run.state.global_step == 0


@pytest.mark.parametrize("tasks", [0, -1, ["a", "b"], True, 2.0])
def test_a_number_of_tasks_that_is_none_is_refused(tasks: Any) -> None:
    with pytest.raises(MonitorError, match=r"tasks must be a number of at least 1.*len\(prompts\)"):
        CollapseGuardCallback(evaluate=evaluate, tasks=tasks)


def test_sharded_weights_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    class Arguments:
        fsdp = True

    with pytest.raises(MonitorError, match="FSDP keeps only a part"):
        refuse_sharded(Overshooter(), Arguments())
    sharded = Overshooter()
    sharded.level.ds_id = 0  # as DeepSpeed marks a parameter of ZeRO-3
    with pytest.raises(MonitorError, match="ZeRO-3 keeps only a part"):
        trainer(tmp_path, guarded()).__class__(sharded, trainer(tmp_path, None).args, callbacks=[guarded()])
    empty = Overshooter()
    empty.level.data = torch.empty(0)  # what it leaves in a process that has no part of it
    with pytest.raises(MonitorError, match="level is empty"):
        copied(empty)
    with pytest.raises(MonitorError, match="do not fit the model, level differs"):
        paste(empty, {"level": torch.ones(())})


@pytest.mark.nightly  # starts a process group
def test_weights_that_fsdp2_has_sharded_are_refused() -> None:
    from torch.distributed.fsdp import fully_shard

    os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29511"}
    torch.distributed.init_process_group("gloo")
    try:
        model = torch.nn.Sequential(torch.nn.Linear(2, 2))
        fully_shard(model, mesh=torch.distributed.init_device_mesh("cpu", (1,)))
        with pytest.raises(MonitorError, match="keeps only a part"):
            refuse_sharded(model)
    finally:
        torch.distributed.destroy_process_group()
