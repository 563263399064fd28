"""Runs of others: public logs, read with sr-monitor's own readers, and the rules that can be played on a log.

A log has one held-out value per evaluation and nothing to draw from, so a guard gets the pooled count as if all
problems were one task, without fresh samples. There is no audit set: what a rule keeps is judged on the evaluations
that it saw, so these numbers are apart from those of our traces and favour whoever keeps the highest value seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from tracekit import rules

from sr_monitor import CollapseGuard, EarlyStop, judge, read_runs
from sr_monitor.analysis.margin import margin_at
from sr_monitor.analysis.runs import Run

# Qwen3-0.6B, GRPO on MATH, 500 problems of one answer each; Apache-2.0, from rasbt/reasoning-from-scratch.
DATA = Path(__file__).parents[2].parent / "shared" / "data" / "qwen3-0.6b-grpo"
PROBLEMS = 500


@dataclass(frozen=True)
class Log:
    """One run. evaluations: (step, held-out rate); rows: the signals of every logged step."""

    name: str
    run: Run
    evaluations: tuple[tuple[int, float], ...]
    rows: tuple[tuple[int, dict[str, float]], ...]

    @property
    def best(self) -> float:
        return max(rate for _, rate in self.evaluations)

    @property
    def fall(self) -> tuple[int, int] | None:
        """(last step before, first evaluation) below an earlier one by more than is tolerated."""
        peak, before = 0.0, 0
        for step, rate in self.evaluations:
            peak = max(peak, rate)
            if peak - rate > margin_at(peak):
                return before, step
            before = step
        return None


Play = Callable[[Log], tuple[int | None, int]]  # (step of the first alarm, step kept)


def load(folder: Path = DATA) -> list[Log]:
    """Every log in ``folder`` that holds evaluations; none where the folder is absent."""
    logs = []
    for file in sorted(folder.glob("*.csv")):
        (run,) = read_runs(file)
        rated = tuple((r.step, r.heldout) for r in run.records if r.heldout is not None)
        logs.append(Log(file.stem, run, rated, tuple((r.step, dict(r.signals)) for r in run.records)))
    return logs


def judged(logs: Sequence[Log]) -> dict[str, list[dict[str, Any]]]:
    """Rule -> one row per log: alarm, kept (steps), points lost against the best evaluation, false (alarm or not)."""
    return {name: [_row(log, *play(log)) for log in logs] for name, play in _rules().items()}


def _row(log: Log, alarm: int | None, kept: int) -> dict[str, Any]:
    rate = next(rate for step, rate in reversed(log.evaluations) if step <= max(kept, log.evaluations[0][0]))
    # between the evaluations around a fall nobody knows when it happened
    false = alarm is not None and (log.fall is None or alarm <= log.fall[0])
    return {
        "run": log.name,
        "onset": log.fall[1] if log.fall else None,
        "alarm": alarm,
        "kept": kept,
        "lost": round(100 * (log.best - rate), 1),
        "false": false,
    }


def _rules() -> dict[str, Play]:
    from river.drift import ADWIN, PageHinkley

    return {
        "CollapseGuard, no fresh samples": _guard(CollapseGuard),
        "sr watch after each evaluation": _watch,
        "ES, 3 evaluations after peak": _guard(lambda: EarlyStop(mode="patience", patience=150)),
        **{f"transformers, patience {n}": _transformers(n) for n in (1, 3, 5)},
        "river ADWIN": _drift(ADWIN),
        "river Page-Hinkley": _drift(lambda: PageHinkley(mode="down")),
        "rldoctor": _rldoctor,
        "rlprobe": _rlprobe,
        "soup-cli, logged mean": _soup,
        "best held-out": lambda log: (None, _best(log)),
        "always last": lambda log: (None, log.evaluations[-1][0]),
    }


def _best(log: Log, until: int | None = None) -> int:
    return max((e for e in log.evaluations if until is None or e[0] <= until), key=lambda e: e[1])[0]


def _guard(make: Callable[[], Any]) -> Play:
    def play(log: Log) -> tuple[int | None, int]:
        guard = make()
        guard.begin(0, log.evaluations[-1][0], 1)
        for step, rate in log.evaluations:
            if guard.step(step, [round(PROBLEMS * rate)], PROBLEMS).action != "continue":
                return step, guard.kept()
        return None, guard.kept()

    return play


def _watch(log: Log) -> tuple[int | None, int]:
    """``sr watch --tasks 500 --samples 1`` on the log so far."""
    for step, _ in log.evaluations:
        seen = tuple(replace(r, total_samples=PROBLEMS) for r in log.run.records if r.step <= step)
        verdict = judge(replace(log.run, records=seen))
        if verdict.verdict in ("at_risk", "collapsed"):
            return step, verdict.peak_step if verdict.peak_step is not None else step
    return None, _best(log)


def _transformers(patience: int) -> Play:
    from transformers import EarlyStoppingCallback

    def play(log: Log) -> tuple[int | None, int]:
        callback: Any = EarlyStoppingCallback(early_stopping_patience=patience)
        args = SimpleNamespace(metric_for_best_model="acc", greater_is_better=True)
        state, control = SimpleNamespace(best_metric=None), SimpleNamespace(should_training_stop=False)
        for step, rate in log.evaluations:
            callback.on_evaluate(args, state, control, metrics={"eval_acc": rate})
            if state.best_metric is None or rate > state.best_metric:  # the trainer does this after the callback
                state.best_metric = rate
            if control.should_training_stop:
                return step, _best(log, step)
        return None, _best(log)

    return play


def _drift(make: Callable[[], Any]) -> Play:
    def play(log: Log) -> tuple[int | None, int]:
        detector = make()
        seen: list[float] = []
        for step, rate in log.evaluations:
            detector.update(rate)
            if detector.drift_detected and seen and rate < np.mean(seen):
                return step, step
            seen.append(rate)
        return None, log.evaluations[-1][0]

    return play


def _rldoctor(log: Log) -> tuple[int | None, int]:
    """Its live monitor as it comes, on TRL's names of the signals and the held-out accuracy."""
    from rl_doctor.live import LiveMonitor

    rated = dict(log.evaluations)
    with rules.silent():
        monitor = LiveMonitor(config={"algorithm": "grpo"}, on_finding=lambda finding: None)
        for step, signals in log.rows:
            row = rules.trl_row(signals) | ({"eval_accuracy": rated[step]} if step in rated else {})
            if monitor.log(row, step=step):
                return step, step
    return None, log.evaluations[-1][0]


def _rlprobe(log: Log) -> tuple[int | None, int]:
    """Its detectors and halt policy as they come, diagnosed every 25 steps as its TRL callback does."""
    from rlprobe.doctor.engine import diagnose_view
    from rlprobe.doctor.live import HaltPolicy
    from rlprobe.doctor.runview import RunView
    from rlprobe.integrations.trl import _map_logs
    from rlprobe.schemas import RunManifest, StepRecord

    manifest, policy = RunManifest(run_id="log", created_at="", algorithm="grpo"), HaltPolicy()
    records = []
    for count, (step, signals) in enumerate(log.rows, 1):
        records.append(StepRecord(step=step, **_map_logs(rules.trl_row(signals))))
        if count % 25 == 0 and policy.should_halt(diagnose_view(RunView(manifest, records))) is not None:
            return step, step
    return None, log.evaluations[-1][0]


def _soup(log: Log) -> tuple[int | None, int]:
    from soup_cli.utils.reward_hacking import RewardHackCallback

    callback = RewardHackCallback(detector="info_rm", halt_on_hack=True, buffer=None)
    control = SimpleNamespace(should_training_stop=False)
    for step, signals in log.rows:
        reward = signals.get("train_reward")
        if reward is not None and math.isfinite(reward):
            spread = math.sqrt(max(0.0, reward * (1 - reward)))
            state = SimpleNamespace(global_step=step, log_history=[])
            callback.on_log(None, state, control, logs={"reward": reward, "reward_std": spread})
        if control.should_training_stop:
            return step, step
    return None, log.evaluations[-1][0]
