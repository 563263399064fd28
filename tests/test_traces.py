"""The scorer of the trace benchmark and the rules of peers, on traces made by hand whose truth is known."""

import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest
from tracekit import rules

from sr_monitor import CollapseGuard, EarlyStop
from sr_monitor.tracebench import Outcome, Pool, Rule, Score, Trace, guarded, load, split, truth

FALL = [0.3, 0.4, 0.5, 0.6, 0.6, 0.6, 0.3, 0.1, 0.0, 0.0]


def made(curve: list[float], seed: int = 0) -> Trace:
    """30 held-out tasks with 32 samples and 200 audit tasks with 4, all of the same difficulty."""
    rng = np.random.default_rng(seed)
    rates = np.array(curve)
    signals = dict.fromkeys(("loss", "grad_norm", "entropy", "train_reward"), 0.5)
    return Trace(
        name=f"made-{seed}",
        seed=seed,
        planned=len(curve) - 1,
        train_samples=128,
        passed_ETS=rng.random((len(curve), 30, 32)) < rates[:, None, None],
        audit_EA=rng.binomial(4, rates[:, None], (len(curve), 200)) / 4,
        signals=tuple(dict(signals) for _ in curve),
    )


def test_a_pool_deals_every_sample_once_and_counts_what_it_cannot_deal() -> None:
    trace = made([0.5, 0.5])
    pool = Pool(trace)
    first, second = pool.draw(1, 20)[0], pool.draw(1, 12)[0]
    assert [a + b for a, b in zip(first, second, strict=True)] == trace.passed_ETS[1].sum(axis=1).tolist()
    assert pool.draw(1, 4) == ([0] * 30, 0)
    assert (pool.drawn, pool.short) == (32 * 30, 1)


def test_the_onset_is_the_first_step_of_a_lasting_fall() -> None:
    assert truth.onset(made(FALL)) == 6
    assert truth.onset(made([0.6, 0.6, 0.6, 0.3, 0.6, 0.6])) is None  # a single stray value
    assert truth.onset(made([0.6] * 4 + [0.55] * 4)) is None


def test_audit_noise_makes_no_regret_where_every_policy_is_as_good() -> None:
    lost = [truth.regret(made([0.5] * 20, seed), kept=10) for seed in range(60)]
    assert abs(np.mean(lost)) < 3 * np.std(lost) / math.sqrt(60)


def test_regret_is_the_distance_to_the_best_policy() -> None:
    assert truth.regret(made(FALL), kept=9) == pytest.approx(60, abs=5)


def test_alarms_are_false_before_a_fall_and_late_after_it() -> None:
    def at(step: int | None) -> Rule:
        return lambda trace: Outcome(alarm=step, kept=4, drawn=0, trained=128)

    traces = [made(FALL)]
    assert Score.of(at(5), traces).false_alarms == 1
    assert Score.of(at(8), traces).false_alarms == 0
    assert Score.of(at(8), traces).delays == [2.0]
    assert Score.of(at(None), traces).delays == [math.inf]
    assert Score.of(at(3), [made([0.5] * 6)]).false_alarms == 1


def test_the_guard_is_scored_on_what_it_drew_and_kept() -> None:
    played = guarded(lambda trace: CollapseGuard())(made(FALL))
    assert played.alarm in (6, 7)
    assert played.kept in (3, 4, 5)
    assert played.drawn >= (played.alarm + 1) * 30 * 16
    assert played.trained == played.alarm * 128


def test_patience_stops_where_transformers_stops() -> None:
    pytest.importorskip("transformers")
    ours, theirs = guarded(lambda trace: EarlyStop(mode="patience")), rules.transformers_patience(3)
    for seed in range(10):
        trace = made([0.5] * 15, seed)
        assert ours(trace) == theirs(trace)


def test_peers_run_on_a_trace() -> None:
    drift = pytest.importorskip("river.drift", reason="river is in the bench group: uv sync --group bench")
    late = made([0.6] * 40 + [0.0] * 10)
    alarm = rules.drift(lambda: drift.PageHinkley(threshold=0.3, mode="down"))(late).alarm
    assert alarm is not None
    assert alarm >= 40
    # its rule for entropy: below 1.0 for half of 50 steps, the first 19 not counted
    assert rules.rlwatch()(late).alarm == 44


def test_traces_are_read_alone_and_packed(tmp_path: Path) -> None:
    row = {"heldout": ["5", 2], "audit": [1, 4], "signals": {"loss": 0.1}}
    trace = {"seed": 1, "config": {"steps": 3}, "train_samples": 8, "pool": 4, "audit_samples": 4}
    trace["rows"] = [{"step": 0, **row}, {"step": 1, **row, "audit": None}]  # type: ignore[assignment]
    one, other = {**trace, "name": "a-1"}, {**trace, "name": "b-2", "seed": 2}
    for name, content in (("one", one), ("pack", [other])):
        (tmp_path / f"{name}.json.gz").write_bytes(gzip.compress(json.dumps(content).encode()))
    read = load(tmp_path)
    assert [t.name for t in read] == ["a-1", "b-2"]
    assert read[0].passed_ETS[0].tolist() == [[True, False, True, False], [False, True, False, False]]
    assert truth.audited(read[0]).tolist() == [[0.25, 1.0], [0.25, 1.0]]
    assert [[t.name for t in part] for part in split(read)] == [["b-2"], ["a-1"]]
