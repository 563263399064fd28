"""Intervals agree with known values, with scipy, and with their own laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sr_monitor import (
    MonitorError,
    Trajectory,
    bootstrap,
    hindsight_oracle,
    paired_bootstrap,
    regret,
    trace_oracle,
    wilson,
)

SEEDS = [4.9, 12.0, 7.5, 3.1, 9.4, 8.8, 6.0]


def test_wilson_at_the_edge() -> None:
    # z^2 / (n + z^2) with z = 1.959964
    assert wilson(0, 10).low == 0
    assert wilson(0, 10).high == pytest.approx(0.277533, abs=1e-6)
    assert wilson(10, 10).high == 1


def test_wilson_of_a_published_example() -> None:
    # 81 of 263: Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3
    interval = wilson(81, 263)
    assert interval.low == pytest.approx(0.2553, abs=1e-4)
    assert interval.high == pytest.approx(0.3662, abs=1e-4)


@given(st.integers(0, 50), st.integers(1, 50))
@settings(max_examples=100, deadline=None)
def test_wilson_holds_its_estimate_and_mirrors(passed: int, total: int) -> None:
    passed = min(passed, total)
    one, mirrored = wilson(passed, total), wilson(total - passed, total)
    assert 0 <= one.low <= one.estimate <= one.high <= 1
    assert one.low == pytest.approx(1 - mirrored.high, abs=1e-9)


def test_bootstrap_agrees_with_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    theirs = stats.bootstrap(
        (SEEDS,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(1)
    ).confidence_interval
    ours = bootstrap(SEEDS, draws=20_000)
    assert ours.low == pytest.approx(theirs.low, abs=0.1)
    assert ours.high == pytest.approx(theirs.high, abs=0.1)


def test_resampling_tasks_too_widens_the_interval() -> None:
    rng = np.random.default_rng(0)
    values_SM = rng.normal(0, 0.05, (6, 1)) + rng.normal(0, 1.0, (1, 20))
    over_seeds, over_both = bootstrap(values_SM.mean(axis=1)), bootstrap(values_SM)
    assert over_both.high - over_both.low > 2 * (over_seeds.high - over_seeds.low)


def test_pairing_removes_what_both_share() -> None:
    ours = np.array(SEEDS) + 1.0
    interval = paired_bootstrap(ours, SEEDS)
    assert interval.low == pytest.approx(1.0)
    assert interval.high == pytest.approx(1.0)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=8), st.floats(-3, 3))
@settings(max_examples=40, deadline=None)
def test_bootstrap_moves_with_its_values(values: list[float], shift: float) -> None:
    one = bootstrap(values, draws=500)
    moved = bootstrap([v + shift for v in values], draws=500)
    assert moved.low == pytest.approx(one.low + shift, abs=1e-6)
    assert one.low <= one.high


def test_unequal_shapes_and_gaps_are_refused() -> None:
    with pytest.raises(MonitorError, match="shapes must be equal"):
        paired_bootstrap([1.0], [1.0, 2.0])
    with pytest.raises(MonitorError, match="finite"):
        bootstrap([1.0, float("nan")])
    with pytest.raises(MonitorError, match="confidence"):
        bootstrap([1.0, 2.0], confidence=95)


def test_oracles_by_hand() -> None:
    chain = [Trajectory.from_rates(range(3), [0.2, 0.6, 0.1]), Trajectory.from_rates(range(2), [0.1, 0.4])]
    assert trace_oracle(chain) == pytest.approx(0.5)
    assert hindsight_oracle(chain) == 0.6
    assert regret(chain[0], 2) == pytest.approx(0.5)
    with pytest.raises(MonitorError, match="not evaluated"):
        regret(chain[0], 9)
