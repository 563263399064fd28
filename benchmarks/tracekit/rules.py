"""Rules that watch a run, each played on a recorded one: when it raises its first alarm, and what it keeps.

A trace has no rollbacks, so a rule ends at its first alarm, be it to stop or to go back. A rule with a notion of a
peak keeps the policy that it names; any other keeps the last one.
"""

from __future__ import annotations

import contextlib
import logging
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from sr_monitor.tracebench.play import SAMPLES, Outcome, Rule, outcome
from sr_monitor.tracebench.trace import Pool, Trace

# our signals, as TRL logs them
TRL_NAMES = {
    "train_reward": "reward",
    "loss": "loss",
    "grad_norm": "grad_norm",
    "entropy": "entropy",
    "kl": "kl",
    "length": "completions/mean_length",
    "truncated": "completions/clipped_ratio",
    "zero_std_groups": "frac_reward_zero_std",
}


def transformers_patience(patience: int) -> Rule:
    """transformers' ``EarlyStoppingCallback`` with the best checkpoint loaded at the end, as its trainer drives it."""
    from transformers import EarlyStoppingCallback

    def play(trace: Trace) -> Outcome:
        callback: Any = EarlyStoppingCallback(early_stopping_patience=patience)
        pool = Pool(trace)
        args = SimpleNamespace(metric_for_best_model="pass1", greater_is_better=True)
        state, control = SimpleNamespace(best_metric=None), SimpleNamespace(should_training_stop=False)
        best = 0
        for step in range(trace.last + 1):
            value = _pass1(pool, step)
            callback.on_evaluate(args, state, control, metrics={"eval_pass1": value})
            if state.best_metric is None or value > state.best_metric:  # the trainer does this after the callback
                state.best_metric, best = value, step
            if control.should_training_stop:
                return outcome(trace, step, best, pool)
        return outcome(trace, None, best, pool)

    return play


def drift(make: Callable[[], Any]) -> Rule:
    """A river drift detector on held-out pass@1; drift is an alarm where the value lies below the mean so far."""

    def play(trace: Trace) -> Outcome:
        detector, pool = make(), Pool(trace)
        seen: list[float] = []
        for step in range(trace.last + 1):
            value = _pass1(pool, step)
            detector.update(value)
            if detector.drift_detected and seen and value < np.mean(seen):
                return outcome(trace, step, step, pool)
            seen.append(value)
        return outcome(trace, None, trace.last, pool)

    return play


def rlwatch(**options: Any) -> Rule:
    """rlwatch in manual mode on the signals it takes and a trace has; any of its alerts counts."""
    from rlwatch.config import load_config
    from rlwatch.core import RLWatch

    def play(trace: Trace) -> Outcome:
        with tempfile.TemporaryDirectory() as folder, silent():
            monitor = RLWatch(load_config(framework="manual", storage={"log_dir": folder}, **options))
            try:
                for step in range(1, trace.last + 1):
                    row, reward = trace.signals[step], trace.signals[step]["train_reward"]
                    alerts = monitor.log_step(
                        step,
                        entropy=row["entropy"],
                        kl_divergence=row.get("kl"),
                        reward_mean=reward,
                        reward_std=None if reward is None else _spread(reward),
                        loss=row["loss"],
                        grad_norm=row["grad_norm"],
                    )
                    if alerts:
                        return outcome(trace, step, step)
            finally:
                monitor.store.close()
        return outcome(trace, None, trace.last)

    return play


def soup(*, from_log: bool) -> Rule:
    """soup-cli's reward-hacking detector ``info_rm``, which stops on its verdict HACK.

    It reads the rewards of every completion, as soup-cli wires it for GRPO, or, ``from_log``, their logged mean and
    spread, as it does for other trainers. Its ``rm_ensemble`` needs several reward functions; there is one.
    """
    from soup_cli.utils.reward_hacking import RewardHackCallback
    from soup_cli.utils.rl_signal_buffer import RLSignalBuffer

    def play(trace: Trace) -> Outcome:
        buffer = None if from_log else RLSignalBuffer()
        callback = RewardHackCallback(detector="info_rm", halt_on_hack=True, buffer=buffer)
        control = SimpleNamespace(should_training_stop=False)
        for step in range(1, trace.last + 1):
            reward = trace.signals[step]["train_reward"]
            state = SimpleNamespace(global_step=step, log_history=[])
            if reward is not None and buffer is None:
                callback.on_log(None, state, control, logs={"reward": reward, "reward_std": _spread(reward)})
            elif reward is not None and buffer is not None:
                right = round(reward * trace.train_samples)  # a reward is 0 or 1
                rewards = [1.0] * right + [0.0] * (trace.train_samples - right)
                buffer.record(func_name="tests", completions=[""] * len(rewards), rewards=rewards)
                with silent():
                    callback.on_step_end(None, state, control)
            if control.should_training_stop:
                return outcome(trace, step, step)
        return outcome(trace, None, trace.last)

    return play


def rldoctor(*, min_steps: int | None = None, check_every: int | None = None, alert_at: str = "WARNING") -> Rule:
    """rl-doctor's live monitor on the log its TRL callback would see, held-out pass@1 included.

    Its first finding at ``alert_at`` or above counts. It runs a diagnosis after ``min_steps`` rows, then at every
    ``check_every``-th; left out, both are its own (60 and 25).
    """
    from rl_doctor.detectors.base import Severity
    from rl_doctor.live import LiveMonitor

    given: dict[str, Any] = {"min_steps": min_steps, "check_every": check_every}
    options = {name: value for name, value in given.items() if value is not None}
    options |= {"alert_at": Severity[alert_at], "on_finding": lambda finding: None}

    def play(trace: Trace) -> Outcome:
        pool = Pool(trace)
        config = {"algorithm": "grpo", "batch_size": trace.train_samples}
        with silent():
            monitor = LiveMonitor(config=config, **options)
            for step in range(1, trace.last + 1):
                row = trl_row(trace.signals[step]) | {"eval_heldout_pass1": _pass1(pool, step)}
                if monitor.log(row, step=step):
                    return outcome(trace, step, step, pool)
        return outcome(trace, None, trace.last, pool)

    return play


def rlprobe(*, least: int | None = None, severity: str = "critical", confidence: float = 0.7) -> Rule:
    """rlprobe's detectors on the log its TRL callback would record; a finding that its halt policy acts on counts.

    Its detectors answer from ``least`` rows on (their own: 30). It has no place for a held-out score.
    """
    from rlprobe.doctor.base import REGISTRY
    from rlprobe.doctor.engine import diagnose_view
    from rlprobe.doctor.live import HaltPolicy
    from rlprobe.doctor.runview import RunView
    from rlprobe.integrations.trl import _map_logs
    from rlprobe.schemas import RunManifest, StepRecord

    policy = HaltPolicy(min_severity=severity, min_confidence=confidence)
    manifest = RunManifest(run_id="trace", created_at="", algorithm="grpo")

    def play(trace: Trace) -> Outcome:
        own = {detector: detector.min_steps for detector in REGISTRY}
        records = []
        try:
            for detector in REGISTRY:
                detector.min_steps = own[detector] if least is None else least
            for step in range(1, trace.last + 1):
                records.append(StepRecord(step=step, **_map_logs(trl_row(trace.signals[step]))))
                if policy.should_halt(diagnose_view(RunView(manifest, records))) is not None:
                    return outcome(trace, step, step)
        finally:
            for detector, value in own.items():
                detector.min_steps = value
        return outcome(trace, None, trace.last)

    return play


def trl_row(signals: Mapping[str, float | None]) -> dict[str, float]:
    """A step's signals under the names TRL gives them; a reward is 0 or 1, which gives its spread."""
    named = {TRL_NAMES[name]: value for name, value in signals.items() if name in TRL_NAMES and value is not None}
    reward = named.get("reward")
    return named if reward is None else named | {"reward_std": _spread(reward)}


def always_last(trace: Trace) -> Outcome:
    return outcome(trace, None, trace.last)


def best_training_reward(trace: Trace) -> Outcome:
    """The checkpoint that was saved with the highest logged training reward, as trainers choose it."""
    rewards = [-math.inf if (r := row["train_reward"]) is None else r for row in trace.signals]
    return outcome(trace, None, int(np.argmax(rewards)))


def best_heldout(trace: Trace) -> Outcome:
    """The highest of all held-out evaluations: no rule stops, the choice is made afterwards."""
    pool = Pool(trace)
    values = [_pass1(pool, step) for step in range(trace.last + 1)]
    return outcome(trace, None, int(np.argmax(values)), pool)


def _pass1(pool: Pool, step: int) -> float:
    passes, samples = pool.draw(step, SAMPLES)
    return float(np.mean(passes)) / samples


def _spread(reward: float) -> float:
    """Standard deviation of rewards that are 0 or 1, from their mean."""
    return math.sqrt(reward * (1 - reward))


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Without the panels and warnings of the packages under test."""
    with contextlib.redirect_stderr(None), contextlib.redirect_stdout(None):
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
