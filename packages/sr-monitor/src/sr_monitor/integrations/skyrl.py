"""``CollapseGuardCallback`` for SkyRL's ``RayPPOTrainer`` (its trainer callbacks, from release 0.3 of May 2026 on).

    RayPPOTrainer(..., callbacks=[CollapseGuardCallback()])

SkyRL's callbacks can ask for an evaluation and a checkpoint, but not for an evaluation of an older policy. So the guard
decides without fresh samples: its false-alarm rate holds, but a fall must be larger to count. On an alarm the training
ends after the step, and the last line says how to start it again from the best checkpoint. The samples are read from
what SkyRL dumps (``trainer.dump_eval_results``); take several per prompt (``generator.eval_n_samples_per_prompt=16``).

It has no rollback within a run, and does not take step-wise trajectories or the ``SFTTrainer``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sr_monitor.errors import MonitorError
from sr_monitor.guard.collapse_guard import CollapseGuard
from sr_monitor.guard.decision import Decision
from sr_monitor.integrations.samples import SOLVED, passes_per_task, read_samples, scores_in_words

__all__ = ["CollapseGuardCallback"]

STATE_FILE = "collapse_guard.json"


class CollapseGuardCallback:
    """Judges every evaluation, saves every policy that is evaluated, ends the training on a fall.

    guard: default ``CollapseGuard(max_rollbacks=0)``. solved: the score from which a trajectory counts as solved.
    decisions: list of (step, Decision). It has the methods of SkyRL's ``TrainingCallback``, by whose names SkyRL calls.
    """

    def __init__(self, *, guard: CollapseGuard | None = None, solved: float = SOLVED) -> None:
        self.guard = CollapseGuard(max_rollbacks=0) if guard is None else guard
        self.solved = solved
        self.decisions: list[tuple[int, Decision]] = []
        self._metrics: dict[str, float] = {}
        self._ended = False

    def on_train_start(self, trainer: Any, callback_input: Any, control: Any) -> None:
        settings = _settings(trainer)
        step = callback_input.global_step
        saved = _checkpoint(settings, step) / STATE_FILE
        if step and saved.exists():
            state = json.loads(saved.read_text(encoding="utf-8"))
            self.guard.load_state_dict(state)
            return
        self.guard.begin(0, callback_input.total_steps)

    def on_step_end(self, trainer: Any, callback_input: Any, control: Any) -> None:
        """SkyRL saves before it evaluates, so what will be evaluated is saved: it may be the one to return to."""
        step, every = callback_input.global_step, trainer.cfg.trainer.eval_interval
        if step % every == 0 or step == callback_input.total_steps:
            control.should_save = True

    def on_eval_end(self, trainer: Any, callback_input: Any, control: Any) -> None:
        settings, step = trainer.cfg.trainer, callback_input.global_step
        if self.decisions and step <= self.decisions[-1][0]:
            return
        folder = Path(settings.export_path) / "dumped_evals" / f"global_step_{step}_evals"
        files = sorted(file for file in folder.glob("*.jsonl") if file.name != "aggregated_results.jsonl")
        if not files:
            raise MonitorError(f"skyrl: {folder} holds no samples; set trainer.dump_eval_results=true")
        tasks, scores = read_samples(files, ("data_source", "input_prompt", "env_extras"), "score")
        passes, samples = passes_per_task(tasks, scores, self.solved)
        if not self.decisions:
            _say(scores_in_words(scores, self.solved))
        decision = self.guard.step(step, passes, samples)
        self.decisions.append((step, decision))
        self._metrics = {"eval/heldout_pass1": sum(passes) / (samples * len(passes))}
        if decision.action != "continue":
            self._ended = True
            _say(f"step {step}: {decision.reason}")
            settings.max_training_steps = step  # SkyRL ends after this step
        self._save(settings, step)

    def on_save(self, trainer: Any, callback_input: Any, control: Any) -> None:
        """Every checkpoint has the guard's state, not those alone that are evaluated: any may be resumed from."""
        self._save(_settings(trainer), callback_input.global_step)

    def _save(self, settings: Any, step: int) -> None:
        folder = _checkpoint(settings, step)
        if folder.is_dir():
            (folder / STATE_FILE).write_text(json.dumps(self.guard.state_dict()), encoding="utf-8")

    def on_log(self, trainer: Any, callback_input: Any, control: Any) -> None:
        if callback_input.logs is not None:
            callback_input.logs.update(self._metrics)
        self._metrics = {}

    def on_train_end(self, trainer: Any, callback_input: Any, control: Any) -> None:
        kept = self.guard.kept()
        folder = _checkpoint(trainer.cfg.trainer, kept)
        _say(f"keeps step {kept}" + (f" ({folder})" if folder.is_dir() else ", which is the model before training"))
        if self._ended and folder.is_dir():
            _say(
                f"go on with trainer.resume_mode=from_path trainer.resume_path={folder} and "
                f"{self.guard.lr_scale:g} times the learning rate"
            )

    def _nothing(self, trainer: Any, callback_input: Any, control: Any) -> None:
        """An event that the guard does not need."""

    on_epoch_start = on_epoch_end = on_step_start = on_eval_start = _nothing


def _settings(trainer: Any) -> Any:
    """The trainer's settings, if the guard can work with them."""
    settings = getattr(trainer.cfg, "trainer", None)
    if settings is None or not hasattr(settings, "dump_eval_results"):
        raise MonitorError(f"skyrl: a {type(trainer).__name__} dumps no evaluations; the guard needs RayPPOTrainer")
    for wrong, rule in (
        (not settings.dump_eval_results, "trainer.dump_eval_results=true"),
        (settings.eval_interval <= 0, "a trainer.eval_interval above 0"),
        (settings.max_ckpts_to_keep > 0, "trainer.max_ckpts_to_keep=-1, or the best checkpoint is deleted"),
        (trainer.cfg.generator.step_wise_trajectories, "generator.step_wise_trajectories=false"),
    ):
        if wrong:
            raise MonitorError(f"skyrl: the guard needs {rule}")
    return settings


def _checkpoint(settings: Any, step: int) -> Path:
    return Path(settings.ckpt_path) / f"global_step_{step}"


def _say(text: str) -> None:
    print(f"CollapseGuard: {text}", flush=True)
