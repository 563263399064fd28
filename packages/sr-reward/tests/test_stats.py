"""pass@k: unbiased, stable, honest at the ends."""

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sr_reward import TaskError, mean_pass_at_k, pass_at_k
from sr_reward.grading.stats import _beta_cdf


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_it_equals_the_exact_fraction(nck):
    n, c, k = nck
    exact = 1 - Fraction(math.comb(n - c, k), math.comb(n, k))
    assert pass_at_k(n, c, k) == pytest.approx(float(exact), rel=1e-12)


@pytest.mark.parametrize(
    ("n", "c", "k", "value"), [(10**12, 1, 1, 1e-12), (10**9, 3, 10, 3e-8), (200, 200, 100, 1.0), (5, 0, 5, 0.0)]
)
def test_it_keeps_its_digits_for_large_n(n, c, k, value):
    assert pass_at_k(n, c, k) == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize(("n", "c", "k"), [(0, 0, 1), (3, 4, 1), (3, -1, 1), (3, 1, 4), (3, 1, 0)])
def test_impossible_counts_are_refused(n, c, k):
    with pytest.raises(TaskError, match="pass@k"):
        pass_at_k(n, c, k)


def test_the_interval_keeps_its_width_at_0_and_1():
    none, all_ = mean_pass_at_k([(4, 0)] * 30, 1), mean_pass_at_k([(4, 4)] * 30, 1)
    assert (none.value, none.low) == (0.0, 0.0)
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 30), abs=1e-9)
    assert (all_.value, all_.high) == (1.0, 1.0)
    assert all_.low == pytest.approx(0.025 ** (1 / 30), abs=1e-9)


def test_the_interval_of_a_share_is_clopper_and_pearsons():
    """8 of 20, from the published tables."""
    found = mean_pass_at_k([(1, 1)] * 8 + [(1, 0)] * 12, 1)
    assert (round(found.low, 4), round(found.high, 4)) == (0.1912, 0.6395)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.just(8), st.integers(0, 8)), min_size=1, max_size=40))
def test_the_interval_holds_the_value(counts):
    found = mean_pass_at_k(counts, 2)
    assert 0 <= found.low <= found.value <= found.high <= 1


@pytest.mark.parametrize(
    ("x", "a", "b", "value"), [(0.3, 2.0, 5.0, 0.579825), (0.5, 3.5, 3.5, 0.5), (0.9, 1.0, 1.0, 0.9)]
)
def test_the_beta_distribution(x, a, b, value):
    assert _beta_cdf(x, a, b) == pytest.approx(value, abs=1e-6)
