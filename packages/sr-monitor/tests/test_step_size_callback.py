"""The callback in a real transformers ``Trainer``: the limit holds at any rate, whatever the gradients do."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

import torch
import transformers
from accelerate import DistributedType

from sr_monitor import CollapseGuard, Decision, MonitorError
from sr_monitor.integrations.checks import refuse_deepspeed, refuse_narrow
from sr_monitor.integrations.step_size import RATES, RISE, SHRINK_MOST, StepSizeCallback
from sr_monitor.integrations.trainer import calling_trainer, scale_rate, soften
from sr_monitor.integrations.transformers import CollapseGuardCallback

pytestmark = pytest.mark.usefixtures("one_thread")


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
    kind, extra = options.pop("kind", transformers.Trainer), options.pop("extra", [])
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
    callbacks = [*extra, *([] if callback is None else [callback])]
    return kind(tiny_model(), arguments, train_dataset=texts(), callbacks=callbacks)


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


class Spoilt(transformers.Trainer):
    """Changes gradients after the backward pass of the steps named in ``spoil``."""

    spoil: dict[int, float]

    def training_step(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        loss = super().training_step(model, *args, **kwargs)
        factor = self.spoil.get(self.state.global_step + 1)
        if factor is not None:
            for parameter in model.parameters():
                parameter.grad.mul_(factor)
        return loss


def test_a_gradient_that_is_not_finite_costs_its_own_step_only(tmp_path: Path) -> None:
    callback = StepSizeCallback()
    run = trainer(tmp_path, callback, 1e-3, kind=Spoilt)
    run.spoil = {4: math.nan, 5: math.inf}
    with pytest.warns(RuntimeWarning, match="step 4 is not taken, its gradient is not finite"):
        run.train()
    scales, rates = ([step[name] for step in callback.steps] for name in ("scale", "lr"))
    assert scales[3:5] == [0, 0]
    assert all(scale > 0 for scale in scales[:3] + scales[5:])
    assert callback.dropped == 2
    assert rates[5] == rates[3]
    assert all(torch.isfinite(p).all() for p in run.model.parameters())


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_a_gradient_scaler_finds_its_scale(tmp_path: Path, clip: float) -> None:
    callback = StepSizeCallback()
    run = trainer(tmp_path, callback, 1e-3, steps=8, kind=Spoilt, max_grad_norm=clip)
    run.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60, backoff_factor=2.0**-25)
    run.spoil = {1: 1e30, 5: math.inf}
    run.train()
    scales = [step["scale"] for step in callback.steps]
    assert [scale > 0 for scale in scales] == [False, True, True, True, False, True, True, True]
    assert run.accelerator.scaler.get_scale() == 2.0**10
    assert all(torch.isfinite(p).all() for p in run.model.parameters())


def test_steps_of_momentum_alone_do_not_raise_the_rate(tmp_path: Path) -> None:
    callback = StepSizeCallback()
    run = trainer(tmp_path, callback, 1e-3, steps=20, kind=Spoilt)
    run.spoil = dict.fromkeys(range(5, 21), 0.0)
    run.train()
    rates = [step["lr"] for step in callback.steps]
    assert max(rates[5:]) <= rates[4]


def test_a_first_batch_without_a_gradient_is_not_searched(tmp_path: Path) -> None:
    callback = StepSizeCallback()
    run = trainer(tmp_path, callback, 1e-5, steps=3, kind=Spoilt, weight_decay=0.1)
    run.spoil = {1: 0.0}
    run.train()
    assert callback.steps[0]["scale"] <= 1
    assert callback.steps[1]["scale"] > 1
    assert callback.steps[1]["step_kl"] > 0.35 * callback.steps[1]["limit"]


@pytest.mark.parametrize(("factor", "rate"), [(1e9, 1e3), (1e-9, 1e-12), (0.0, 1e-12)])
def test_the_rate_has_bounds(factor: float, rate: float) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-4)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=0.5)
    scale_rate(optimizer, scheduler, factor, RATES)
    assert scheduler.base_lrs[0] == pytest.approx(rate, rel=1e-6, abs=0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(rate / 2, rel=1e-6, abs=0)


def test_steps_that_cannot_be_measured_are_not_taken_and_lower_the_rate_to_its_bound(tmp_path: Path) -> None:
    callback = StepSizeCallback()
    run = trainer(tmp_path, callback, 1e-9, steps=5)
    before = [parameter.detach().clone() for parameter in run.model.parameters()]
    run.create_optimizer().register_step_post_hook(lambda *_: next(run.model.parameters()).data.fill_(math.nan))
    run.train()
    assert [step["scale"] for step in callback.steps] == [0] * 5
    assert [step["lr"] for step in callback.steps] == pytest.approx([1e-9, 1e-11, 1e-12, 1e-12, 1e-12], rel=1e-6, abs=0)
    assert all(torch.equal(old, new) for old, new in zip(before, run.model.parameters(), strict=True))


@pytest.mark.skipif(importlib.util.find_spec("peft") is None, reason="needs peft: uv run --group bench")
def test_adapters_on_frozen_bfloat16_weights_are_measured(tmp_path: Path) -> None:
    import peft

    callback = StepSizeCallback()
    run = trainer(tmp_path, callback, 10.0, steps=3)
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"])
    run.model = run.model_wrapped = peft.get_peft_model(run.model.to(torch.bfloat16), config)
    run.callback_handler.model = run.model
    run.train()
    assert all(0 < step["step_kl"] <= step["limit"] for step in callback.steps)


@pytest.mark.parametrize(("lr", "first_change"), [(1e-4, RISE), (10.0, SHRINK_MOST)])
def test_the_rate_of_sharded_weights_moves_from_the_first_step_on(
    tmp_path: Path, lr: float, first_change: float
) -> None:
    callback = StepSizeCallback()
    run = trainer(tmp_path, callback, lr, steps=25)
    next(run.model.parameters()).device_mesh = None  # as the callback tells that weights are not whole
    run.train()
    assert all(step["scale"] == 1 for step in callback.steps)
    assert callback.steps[1]["lr"] == pytest.approx(lr * first_change)
    if lr < 1:  # the other policy was destroyed by its first step
        assert all(0.1 < step["step_kl"] / step["limit"] < 3 for step in callback.steps[-5:])


def test_a_movement_that_is_not_finite_lowers_the_rate_of_sharded_weights() -> None:
    callback = StepSizeCallback()
    callback._rate_only = callback._taught = True
    assert callback._follow(1.0, math.inf, 1e-2) == SHRINK_MOST
    assert callback._follow(1.0, 1e-8, 1e-2) == pytest.approx(RISE)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_trained_weights_of_few_bits_are_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    run = trainer(tmp_path, StepSizeCallback(), 1e-3)
    run.model.to(dtype)
    with pytest.raises(MonitorError, match=r"load the model in float32 and train with bf16=True"):
        run.train()
    for parameter in run.model.parameters():
        parameter.requires_grad_(False)
    refuse_narrow(run.model)  # frozen ones may be narrow


def test_autocast_of_float32_weights_is_measured(tmp_path: Path) -> None:
    callback = StepSizeCallback()
    trainer(tmp_path, callback, 1e-2, steps=3, bf16=True).train()
    assert all(0 < step["step_kl"] <= step["limit"] for step in callback.steps)


def test_deepspeed_is_refused(tmp_path: Path) -> None:
    run = trainer(tmp_path, StepSizeCallback(), 1e-3)
    refuse_deepspeed(run.args, run, "is refused")
    launched = SimpleNamespace(accelerator=SimpleNamespace(distributed_type=DistributedType.DEEPSPEED))
    with pytest.raises(MonitorError, match="DeepSpeed"):
        refuse_deepspeed(run.args, launched, "is refused")
    run.args.deepspeed = {"zero_optimization": {"stage": 2}}
    with pytest.raises(MonitorError, match=r"DeepSpeed .* use DDP or FSDP"):
        run.train()


class Softening(transformers.TrainerCallback):
    """A guard that rolls back after one step, to where it is."""

    def __init__(self, step: int, factor: float) -> None:
        self.step, self.factor = step, factor

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            decision = Decision(
                action="roll_back", rule="", reason="", to_step=0, lr_factor=self.factor, reset_optimizer=True
            )
            callbacks = calling_trainer(self).callback_handler.callbacks  # type: ignore[union-attr]
            soften(kwargs["optimizer"], kwargs["lr_scheduler"], decision, callbacks)


def test_a_guard_lowers_the_limit_for_good_and_a_resumed_run_knows(tmp_path: Path) -> None:
    callback = StepSizeCallback(step_kl=4e-3)
    options = {"save_strategy": "steps", "save_steps": 8}
    trainer(tmp_path, callback, 1e-3, steps=16, extra=[Softening(5, 0.1)], **options).train()
    assert [step["limit"] for step in callback.steps] == pytest.approx([4e-3] * 5 + [4e-4] * 11)
    assert callback.steps[5]["lr"] == callback.steps[4]["lr"] or callback.steps[5]["lr"] > callback.steps[4]["lr"] / 2
    assert all(0.1 < step["step_kl"] / step["limit"] <= 1 for step in callback.steps[5:])
    again = StepSizeCallback(step_kl=4e-3)
    trainer(tmp_path / "elsewhere", again, 1e-3, steps=10).train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    assert again.steps == callback.steps[8:10]


@pytest.mark.parametrize("reset", [True, False])
def test_an_optimizer_without_moments_begins_with_a_search(reset: bool) -> None:
    callback = StepSizeCallback()
    callback.found = True
    callback.soften(0.5, moments_reset=reset)
    callback.soften(0.5, moments_reset=False)
    assert (callback.limit_factor, callback.found) == (0.25, not reset)


def test_the_guard_tells_the_callback_when_it_rolls_back(tmp_path: Path) -> None:
    callback, guard = StepSizeCallback(), Undoing()
    evaluate = CollapseGuardCallback(evaluate=lambda _m, _n, t: [1] * len(t), tasks=4, guard=guard, save_kept=False)
    trainer(tmp_path, callback, 1e-3, steps=4, extra=[evaluate]).train()
    assert callback.limit_factor == 0.25


class Undoing(CollapseGuard):
    """Rolls back once, from step 2 to where it is."""

    def ask(self, step: int) -> None:
        return None

    def decide(self, step: int, signals: Any) -> Decision:
        undo = {"action": "roll_back", "to_step": 2, "lr_factor": 0.25} if step == 2 else {"action": "continue"}
        return Decision(**undo, rule="", reason="")

    def retained(self) -> frozenset[int]:
        return frozenset({2})

    def kept(self) -> int:
        return 2


class Recorder(transformers.TrainerCallback):
    """What a reporter gets, as those of W&B and TensorBoard do, which stand before the user's callbacks."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if "loss" in logs:
            self.rows.append(dict(logs))


def test_reporters_that_stand_before_it_get_what_it_logs(tmp_path: Path) -> None:
    recorder, callback = Recorder(), StepSizeCallback()
    trainer(tmp_path, callback, 1e-3, steps=3, extra=[recorder]).train()
    assert [row["step_kl"] for row in recorder.rows] == [step["step_kl"] for step in callback.steps]
    assert [row["step_scale"] for row in recorder.rows] == [step["scale"] for step in callback.steps]


class Trial(transformers.Trainer):
    """Checkpoints as in a search over hyperparameters."""

    def _get_output_dir(self, trial: Any) -> str:
        return f"{self.args.output_dir}/run-0"


def test_checkpoints_of_a_search_have_its_state(tmp_path: Path) -> None:
    options = {"kind": Trial, "save_strategy": "steps", "save_steps": 2}
    whole, again = StepSizeCallback(), StepSizeCallback()
    trainer(tmp_path, whole, 1e-3, steps=4, **options).train()
    trainer(tmp_path, again, 1e-3, steps=4).train(resume_from_checkpoint=str(tmp_path / "run-0" / "checkpoint-2"))
    assert again.steps == whole.steps[2:]


def test_a_run_that_was_saved_without_it_goes_on_with_it(tmp_path: Path) -> None:
    options = {"save_strategy": "steps", "save_steps": 2}
    trainer(tmp_path, None, 1e-3, steps=2, **options).train()
    callback = StepSizeCallback()
    trainer(tmp_path, callback, 1e-3, steps=4, **options).train(resume_from_checkpoint=True)
    assert [step["step"] for step in callback.steps] == [3, 4]


def test_a_training_after_one_that_broke_begins_anew(tmp_path: Path) -> None:
    callback = StepSizeCallback()
    run = trainer(tmp_path, callback, 1e-3, steps=3, kind=Spoilt)
    run.spoil = {2: "broken"}
    with pytest.raises(TypeError):
        run.train()
    run.spoil = {}
    for _ in range(2):
        run.train()
        assert [step["step"] for step in callback.steps] == [1, 2, 3]
        assert not run.model._forward_pre_hooks


def test_labels_say_what_is_measured_and_never_reach_the_measurement(tmp_path: Path) -> None:
    callback = StepSizeCallback()
    run = trainer(tmp_path, callback, 1e-3, steps=2)
    run.train_dataset = [row | {"labels": [-100] * 5 + row["labels"][5:]} for row in run.train_dataset]
    seen: list[Any] = []
    run.model.register_forward_pre_hook(lambda _m, _a, call: seen.append(call), with_kwargs=True)
    run.train()
    measured = [call for call in seen if "labels" not in call]
    assert measured
    assert all(call["logits_to_keep"].tolist() == [4, 5, 6] for call in measured)
