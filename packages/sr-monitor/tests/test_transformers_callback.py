"""The callback in a real transformers ``Trainer``: on a policy that overshoots, it keeps the peak, and it resumes."""

import os
import socket
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

from sr_monitor import LAST_ITERATE, CollapseGuard, EarlyStop, MonitorError
from sr_monitor.integrations.transformers import CollapseGuardCallback, GenerationEvaluator

pytestmark = pytest.mark.usefixtures("one_thread")


def test_without_the_callback_the_policy_collapses_and_with_it_the_peak_is_kept(tmp_path: Path) -> None:
    free = trainer(tmp_path / "free", None)
    free.train()
    assert free.model.pass_rate < 0.1
    callback = guarded()
    held = trainer(tmp_path / "held", callback)
    held.train()
    assert held.model.pass_rate > 0.88
    assert "roll_back" in {decision.action for _, decision in callback.decisions}


def test_holding_on_disk_gives_the_same_run_and_keeps_few_files(tmp_path: Path) -> None:
    in_memory, on_disk, files = guarded(), guarded(hold="disk"), []

    class Count(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            files.append(len(list((tmp_path / "d" / "collapse_guard").iterdir())))

    one, other = trainer(tmp_path / "m", in_memory), trainer(tmp_path / "d", on_disk)
    other.add_callback(Count())
    one.train()
    other.train()
    assert in_memory.decisions == on_disk.decisions
    assert one.model.level.item() == other.model.level.item()
    assert 0 < max(files) <= 3
    assert [file.name for file in (tmp_path / "d" / "collapse_guard").iterdir()] == ["kept"]


def test_a_resumed_trainer_decides_as_the_uninterrupted_one(tmp_path: Path) -> None:
    whole = guarded()
    uninterrupted = trainer(tmp_path / "whole", whole)
    uninterrupted.train()
    first = guarded()
    interrupted = trainer(tmp_path / "parts", first, save_strategy="steps", save_steps=14)
    stop = transformers.TrainerCallback()
    stop.on_step_end = lambda args, state, control, **k: setattr(  # type: ignore[method-assign]
        control, "should_training_stop", state.global_step >= 14
    )
    interrupted.add_callback(stop)
    interrupted.train()
    second = guarded()
    resumed = trainer(tmp_path / "parts", second, save_strategy="steps", save_steps=14)
    resumed.train(resume_from_checkpoint=str(tmp_path / "parts" / "checkpoint-14"))
    assert first.decisions + second.decisions == whole.decisions
    assert resumed.model.level.item() == uninterrupted.model.level.item()


def test_a_training_resumed_for_longer_goes_on_to_its_new_end(tmp_path: Path) -> None:
    trainer(tmp_path, guarded(), 6, save_strategy="steps", save_steps=6).train()
    second = guarded()
    resumed = trainer(tmp_path, second, 14)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    assert [step for step, _ in second.decisions] == list(range(7, 15))
    trainer(tmp_path / "es", guarded(guard=EarlyStop()), 3, save_strategy="steps", save_steps=3).train()
    other = trainer(tmp_path / "es", guarded(guard=EarlyStop()), 9)
    with pytest.raises(MonitorError, match="same max_steps"):
        other.train(resume_from_checkpoint=str(tmp_path / "es" / "checkpoint-3"))


@pytest.mark.parametrize("average", [False, True])
def test_a_second_training_under_the_same_callback_knows_nothing_of_the_first_ones_weights(
    tmp_path: Path, average: bool
) -> None:
    used = guarded(average=average)
    trainer(tmp_path / "first", used, 30).train()
    again, alone = trainer(tmp_path / "again", used, 6), trainer(tmp_path / "alone", guarded(average=average), 6)
    again.train()
    alone.train()
    assert again.model.level.item() == alone.model.level.item()


def test_what_was_logged_of_a_step_that_was_undone_is_not_held_against_the_next(tmp_path: Path) -> None:
    class Breaking(transformers.TrainerCallback):  # type: ignore[misc]
        def on_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            if state.global_step + 1 == 2:
                given["model"].level.data.fill_(float("nan"))

    class Logging(transformers.Trainer):  # type: ignore[misc]
        def log(self, logs: dict[str, float], *given: Any, **named: Any) -> None:
            broken = {"grad_norm": float("nan")} if self.state.global_step == 2 else {}
            super().log({**logs, **broken}, *given, **named)

    callback = guarded()
    run = trainer(tmp_path, Breaking(), steps=6)
    run.__class__ = Logging
    run.add_callback(callback)
    run.train()
    assert [step for step, decision in callback.decisions if decision.rule == "non_finite"] == [2]


def test_logs_of_an_evaluation_leave_what_training_logged(tmp_path: Path) -> None:
    class Hearing(CollapseGuard):
        def decide(self, step: int, signals: Any) -> Any:
            heard.append(signals.get("train_reward"))
            return super().decide(step, signals)

    class Evaluated(transformers.Trainer):  # type: ignore[misc]
        def log(self, logs: dict[str, float], *given: Any, **named: Any) -> None:
            super().log({**logs, "reward": 1.0} if "loss" in logs else logs, *given, **named)
            super().log({"eval_loss": 2.0}, *given, **named)

    heard: list[float | None] = []
    run = trainer(tmp_path, guarded(guard=Hearing()), steps=4)
    run.__class__ = Evaluated
    run.train()
    assert heard == [None, None, 1.0, 1.0, 1.0]


def test_the_guard_hears_every_logged_reward_once_and_after_a_resume_too(tmp_path: Path) -> None:
    class Hearing(CollapseGuard):
        def decide(self, step: int, signals: Any) -> Any:
            heard.append((step, signals.get("train_reward")))
            return super().decide(step, signals)

    class Rewarded(transformers.Trainer):  # type: ignore[misc]
        def log(self, logs: dict[str, float], *given: Any, **named: Any) -> None:
            super().log({**logs, "reward": 10.0 + self.state.global_step} if "loss" in logs else logs, *given, **named)

    def run(heard_by: CollapseGuardCallback, steps: int, **options: Any) -> Any:
        made = trainer(tmp_path, heard_by, steps, logging_steps=2, **options)
        made.__class__ = Rewarded
        return made

    heard: list[tuple[int, float | None]] = []
    run(guarded(guard=Hearing()), 6, save_strategy="steps", save_steps=4).train()
    assert heard == [(0, None), (1, None), (2, None), (3, 12.0), (4, None), (5, 14.0), (6, None)]
    heard.clear()
    resumed = run(guarded(guard=Hearing()), 6)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert heard == [(5, 14.0), (6, None)]


def test_with_averages_the_mean_is_measured_held_and_handed_on(tmp_path: Path) -> None:
    levels: list[float] = []
    measured: list[float] = []

    class Watch(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            levels.append(given["model"].level.item())

    def seen(model: Overshooter, samples: int, tasks: Sequence[int]) -> list[int]:
        measured.append(model.level.item())
        return evaluate(model, samples, tasks)

    callback = CollapseGuardCallback(evaluate=seen, tasks=TASKS, average=True, guard=CollapseGuard(max_rollbacks=0))
    run = trainer(tmp_path, Watch(), steps=6)
    run.add_callback(callback)
    run.train()
    means = [sum([0.0, *levels[:step]]) / (step + 1) for step in range(7)]
    assert set(np.round(measured, 5)) == set(np.round(means, 5))  # of every step, looked at once or again
    assert levels == sorted(levels)  # training went on from the last weights, not from the means
    assert run.model.level.item() == pytest.approx(means[callback.guard.kept()], abs=1e-6)


def test_with_averages_the_last_weights_are_handed_on_where_the_mean_lags_behind_them(tmp_path: Path) -> None:
    levels: list[float] = []

    class Watch(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            levels.append(given["model"].level.item())

    callback = guarded(average=True)
    run = trainer(tmp_path, Watch(), steps=6)
    run.add_callback(callback)
    run.train()
    assert levels == sorted(levels)  # a rise, so the mean lags
    assert callback.guard.kept() == LAST_ITERATE
    assert run.model.level.item() == levels[-1]
    with pytest.raises(MonitorError, match="last_iterate"):
        CollapseGuardCallback(evaluate=evaluate, tasks=TASKS, guard=CollapseGuard(last_iterate=True))


def test_with_averages_a_roll_back_begins_a_new_mean_and_a_resumed_run_is_the_same(tmp_path: Path) -> None:
    whole = guarded(average=True)
    uninterrupted = trainer(tmp_path / "whole", whole, steps=40, save_strategy="steps", save_steps=10)
    uninterrupted.train()
    assert uninterrupted.model.pass_rate > 0.88
    back = [decision.to_step for _, decision in whole.decisions if decision.action == "roll_back"]
    assert back
    again = guarded(average=True)
    resumed = trainer(tmp_path / "whole", again, steps=40)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-20"))
    assert again.decisions == [found for found in whole.decisions if found[0] > 20]
    assert resumed.model.level.item() == uninterrupted.model.level.item()
    plain = tmp_path / "plain"
    trainer(plain, guarded(), steps=4, save_strategy="steps", save_steps=2).train()
    averaging = trainer(plain, guarded(average=True), steps=6)
    with pytest.raises(MonitorError, match="without means"):
        averaging.train(resume_from_checkpoint=str(plain / "checkpoint-2"))


def test_evaluations_do_not_touch_the_random_numbers_of_training(tmp_path: Path) -> None:
    draws = []
    for callback in (None, guarded(guard=CollapseGuard(max_rollbacks=0, margin=0.9))):
        run = trainer(tmp_path / str(len(draws)), callback, steps=3)
        run.train()
        draws.append(torch.rand(1).item())
    assert draws[0] == draws[1]


def test_weights_that_are_not_finite_are_rolled_back(tmp_path: Path) -> None:
    class Breaking(transformers.TrainerCallback):  # type: ignore[misc]
        def on_optimizer_step(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            if state.global_step + 1 == 2:
                given["model"].level.data.fill_(float("nan"))

    callback = guarded()
    run = trainer(tmp_path, Breaking(), steps=4)
    run.add_callback(callback)
    run.train()
    assert [d.rule for step, d in callback.decisions if step == 2] == ["non_finite"]
    assert torch.isfinite(run.model.level)


class Held(transformers.TrainerCallback):  # type: ignore[misc]
    """Remembers the names of the weights that a guard holds."""

    def __init__(self, callback: CollapseGuardCallback) -> None:
        self.callback = callback
        self.names: set[str] = set()

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
        held = self.callback._held
        self.names |= {name for step in held for name in held.get(step)}


def test_only_trainable_weights_are_held_and_none_after_the_training(tmp_path: Path) -> None:
    callback = guarded()
    run = trainer(tmp_path, callback, steps=2)
    held = Held(callback)
    run.add_callback(held)
    run.train()
    assert held.names == {"level"}
    assert not list(callback._held)


def test_generated_text_is_counted_per_task() -> None:
    class Words:
        """A tokenizer of one letter per token."""

        pad_token_id = 0

        def __call__(self, texts: list[str]) -> dict[str, list[list[int]]]:
            return {"input_ids": [[ord(c) for c in text] for text in texts]}

        def batch_decode(self, rows: list[list[int]], **options: Any) -> list[str]:
            return ["".join(map(chr, row)) for row in rows]

    class Echo:
        device = "cpu"

        def generate(self, input_ids: Any, num_return_sequences: int, **options: Any) -> Any:
            repeated = input_ids.repeat_interleave(num_return_sequences, dim=0)
            return torch.cat([repeated, repeated[:, -1:]], dim=1)

    counter = GenerationEvaluator(
        tokenizer=Words(),
        prompts=["xa", "b", "yya"],
        passed=lambda task, texts: [text == "a" for text in texts],
        max_new_tokens=1,
        batch=4,
    )
    assert counter(Echo(), 3, [0, 1, 2]) == [3, 0, 3]
    assert counter(Echo(), 2, [2]) == [2]


def adapted() -> Any:
    """A tiny language model with LoRA adapters on its attention."""
    peft = pytest.importorskip("peft", reason="peft is in the bench group: uv sync --group bench")
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    model = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(vocab_size=8, num_key_value_heads=2, **sizes))
    return peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))


def moved(model: Any) -> float:
    """How far training has taken the adapters, whose second halves start at zero."""
    return sum(float(p.norm()) for name, p in model.named_parameters() if "lora_B" in name)


def evaluate_adapted(model: Any, samples: int, tasks: Sequence[int]) -> list[int]:
    rate = max(0.02, 0.95 - 3.0 * (moved(model) - 0.5) ** 2)
    return [int((torch.rand(samples) < rate).sum()) for _ in tasks]


def train_adapted(folder: Path, **options: Any) -> tuple[Any, CollapseGuardCallback, set[str]]:
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=24,
        learning_rate=0.02,
        lr_scheduler_type="constant",
        per_device_train_batch_size=2,
        report_to=[],
        disable_tqdm=True,
        use_cpu=True,
        save_strategy="no",
    )
    callback = CollapseGuardCallback(evaluate=evaluate_adapted, tasks=TASKS, guard=CollapseGuard(), **options)
    tokens = torch.tensor([1, 2, 3, 4])
    data = [{"input_ids": tokens, "labels": tokens} for _ in range(64)]
    held = Held(callback)
    run = transformers.Trainer(adapted(), arguments, train_dataset=data, callbacks=[callback, held])
    run.train()
    return run.model, callback, held.names


def test_with_lora_the_adapters_of_the_peak_are_kept_and_nothing_else_is_held(tmp_path: Path) -> None:
    model, callback, held = train_adapted(tmp_path)
    assert "roll_back" in {decision.action for _, decision in callback.decisions}
    assert moved(model) == pytest.approx(0.5, abs=0.25)
    assert held
    assert all("lora" in name for name in held)


def _one_process(rank: int, world: int, folder: str, port: int) -> None:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
    torch.set_num_threads(1)
    model, callback, _ = train_adapted(Path(folder), hold="disk")
    decided = [(step, d.action, d.to_step, d.value) for step, d in callback.decisions]
    Path(folder, f"rank-{rank}").write_text(repr((decided, moved(model), callback.guard.kept())))
    torch.distributed.destroy_process_group()


@pytest.mark.nightly  # starts two processes
def test_two_processes_with_lora_decide_alike_and_end_with_the_same_policy(tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="peft is in the bench group: uv sync --group bench")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # forked, because a child that is spawned would have to find this file by its name as a module
    torch.multiprocessing.start_processes(_one_process, args=(2, str(tmp_path), port), nprocs=2, start_method="fork")
    one, other = ((tmp_path / f"rank-{rank}").read_text() for rank in (0, 1))
    assert one == other
    assert "roll_back" in one
