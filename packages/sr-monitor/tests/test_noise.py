"""The noise null is calibrated, and knows the winner's curse."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_campaigns import tasks_of

from sr_monitor import MonitorError, Trajectory, corrected_peak, noise_null, null_of
from sr_monitor.analysis.curve import Curve
from sr_monitor.analysis.noise import p_value_by_scatter, scatter


def test_one_sample_of_thirty_problems_shows_a_fall_where_there_is_none() -> None:
    null = noise_null([0.3] * 30, 1, 20)
    assert 0.11 <= np.median(null.gap_D) <= 0.18
    assert np.nanmedian(null.one_step_share_D) >= 0.75


def test_sixteen_samples_shrink_it_to_a_quarter() -> None:
    rates_M = tasks_of(30, np.random.default_rng(0), 0.35)
    one, sixteen = noise_null(rates_M, 1, 20), noise_null(rates_M, 16, 20)
    assert np.median(sixteen.gap_D) == pytest.approx(np.median(one.gap_D) / 4, rel=0.2)
    assert np.median(sixteen.gap_D) < 0.04


@pytest.mark.parametrize(("tasks", "samples", "evaluations"), [(30, 16, 20), (30, 1, 20), (100, 4, 8)])
def test_p_values_of_unchanging_policies_are_not_small_too_often(tasks: int, samples: int, evaluations: int) -> None:
    small = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        rates_M = tasks_of(tasks, rng, 0.4)
        passes = rng.binomial(samples, rates_M, (evaluations, tasks))
        seen = Trajectory.from_counts(range(evaluations), passes.tolist(), samples)
        null = null_of(seen, draws=400, seed=seed)
        assert null is not None
        small += null.p_value(seen.gap) <= 0.1
    assert 5 <= small <= 36  # 20 expected, three standard deviations are 13


@pytest.mark.parametrize("evaluations", [6, 9, 14, 40])
def test_gaps_in_units_of_the_curves_own_scatter_are_seldom_large_without_a_fall(evaluations: int) -> None:
    """Few evaluations must not make it more often: their scatter is known badly, which the null has to know."""
    rng = np.random.default_rng(evaluations)
    curves = rng.binomial(40, 0.4, (1000, evaluations)) / 40
    p_values = [p_value_by_scatter(Curve.of(Trajectory.from_rates(range(evaluations), row.tolist()))) for row in curves]
    assert 0.02 <= np.mean(np.array(p_values) <= 0.05) <= 0.072  # three standard deviations above 0.05


def test_a_jump_does_not_count_as_scatter() -> None:
    rng = np.random.default_rng(0)
    noise_DE = 0.02 * rng.standard_normal((100, 20))
    jump_E = np.where(np.arange(20) < 12, 0.5, 0.0)
    assert np.median(scatter(noise_DE + jump_E)) == pytest.approx(np.median(scatter(noise_DE)), rel=0.3)


def test_a_real_collapse_has_a_small_p_value() -> None:
    seen = Trajectory.from_counts(range(4), [[8] * 30, [12] * 30, [12] * 30, [4] * 30], 16)
    null = null_of(seen)
    assert null is not None
    assert null.p_value(seen.gap) < 0.001


def test_the_corrected_peak_is_nearer_to_the_truth_on_average() -> None:
    raw, corrected = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        rates_M = tasks_of(30, rng, 0.4)
        seen = Trajectory.from_counts(range(20), rng.binomial(4, rates_M, (20, 30)).tolist(), 4)
        value = corrected_peak(seen, draws=300)
        assert value is not None
        raw.append(seen.peak - 0.4)
        corrected.append(value - 0.4)
    assert abs(np.mean(corrected)) < abs(np.mean(raw)) / 2


def test_without_counts_there_is_no_null() -> None:
    seen = Trajectory.from_rates([0, 1], [0.2, 0.1])
    assert null_of(seen) is None
    assert corrected_peak(seen) is None


@given(st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=50, deadline=None)
def test_a_larger_gap_is_never_less_surprising(one: float, other: float) -> None:
    null = noise_null([0.5] * 10, 4, 10, draws=200)
    assert null.p_value(max(one, other)) <= null.p_value(min(one, other))


def test_rates_beyond_one_are_refused() -> None:
    with pytest.raises(MonitorError, match="noise null"):
        noise_null([30.0], 1, 5)
