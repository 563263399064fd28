"""Differences between two policies, and the standard errors stated for them."""

from __future__ import annotations

import numpy as np

from sr_monitor.counts import Counts, fall


def drawn(rate_M: np.ndarray, uniform_MS: np.ndarray) -> Counts:
    """What a policy with these pass rates shows on these random numbers."""
    return Counts.of((uniform_MS < rate_M[:, None]).sum(1).tolist(), uniform_MS.shape[1])


def test_the_error_of_coupled_samples_is_the_one_they_have_and_far_below_that_of_independent_ones() -> None:
    rng = np.random.default_rng(0)
    drops, coupled, independent = [], [], []
    for _ in range(300):
        rate_M = rng.beta(1, 0.6, 30)
        uniform_MS = rng.random((30, 5))
        one, other = drawn(rate_M, uniform_MS), drawn(np.clip(rate_M + rng.normal(0, 0.03, 30), 0, 1), uniform_MS)
        drops.append(fall(one, other).drop)
        coupled.append(fall(one, other, coupled=True).se)
        independent.append(fall(one, other).se)
    assert 0.8 < np.sqrt(np.mean(np.square(coupled))) / np.std(drops) < 1.3
    assert np.mean(independent) > 2 * np.std(drops)


def test_coupled_samples_without_any_difference_still_have_an_error() -> None:
    same = Counts.of([0, 5, 3], 5)
    seen = fall(same, same, coupled=True)
    assert seen.drop == 0
    assert 0 < seen.se < fall(same, same).se


def test_of_a_single_task_the_spread_is_unknown_so_coupling_changes_nothing() -> None:
    one, other = Counts.of([3], 5), Counts.of([4], 5)
    assert fall(one, other, coupled=True) == fall(one, other)
