"""What a callback tells the user of a training: lines on the console, and metrics where the trainer logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tqdm.auto import tqdm
from transformers import Trainer, TrainerState, TrainingArguments

from sr_monitor.analysis.counts import Counts
from sr_monitor.guard.decision import LAST_ITERATE, Decision

__all__ = ["RunLog"]


class RunLog:
    """The log of one training. Without a ``trainer`` metrics go to ``state.log_history`` alone."""

    def __init__(self, trainer: Trainer | None, state: TrainerState) -> None:
        self.trainer, self.state = trainer, state

    @property
    def callbacks(self) -> list[Any]:
        """Those of the trainer."""
        return [] if self.trainer is None else list(self.trainer.callback_handler.callbacks)

    def say(self, text: str) -> None:
        """One line, by the main process, that leaves progress bars whole."""
        if self.state.is_world_process_zero:
            tqdm.write(f"CollapseGuard: {text}")

    def evaluation(self, counts: Counts) -> None:
        """Held-out pass@1 of the current step, and what its noise is known from."""
        self._metrics(
            {
                "eval_heldout_pass1": counts.pass1,
                "eval_heldout_se": counts.variance_on(None) ** 0.5,
                "eval_heldout_tasks": float(len(counts.passes_M)),
                "eval_heldout_samples_per_task": float(counts.samples_M[0]),
            }
        )

    def action(self, step: int, decision: Decision) -> None:
        """A rollback or the end."""
        self.say(f"step {step}: {decision.action.replace('_', ' ')}. {decision.reason}")
        self._decision({"action": decision.action, "rule": decision.rule, "to_step": decision.to_step})
        if decision.to_step is not None:
            self._metrics({"eval_heldout_rolled_back_to": float(decision.to_step)})

    def kept(self, step: int, rate: float | None, arguments: TrainingArguments) -> None:
        """The policy that the model holds at the end, and whose choice it is."""
        of = "the last weights" if step == LAST_ITERATE else f"step {step}"
        self.say(f"keeps {of}" + ("" if rate is None else f", held-out pass@1 {rate:.3f}"))
        best = self.state.best_model_checkpoint
        if arguments.load_best_model_at_end and best:
            name = arguments.metric_for_best_model
            self.say(f"load_best_model_at_end chose {Path(best).name} by {name}; the guard's choice stands: {of}")
        if step == LAST_ITERATE:
            return
        self._metrics(
            {"eval_heldout_kept_step": float(step)} | ({} if rate is None else {"eval_heldout_kept_pass1": rate})
        )
        if step < self.state.global_step:
            self._decision({"action": "roll_back", "rule": "kept", "to_step": step})

    def _metrics(self, metrics: dict[str, float]) -> None:
        """As the base class logs, because ``log`` of TRL's trainers also averages and forgets those of training."""
        if self.trainer is None:
            self.state.log_history.append({**metrics, "step": self.state.global_step})
            return
        due = self.trainer.control.should_log
        Trainer.log(self.trainer, metrics)
        self.trainer.control.should_log = due  # logging took back that the step's own metrics are still due

    def _decision(self, decision: dict[str, Any]) -> None:
        """In the history alone, where ``sr watch`` finds it: services take numbers only."""
        row: dict[str, Any] = {"decision": decision, "step": self.state.global_step}
        self.state.log_history.append(row)
