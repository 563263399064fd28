from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from sr_core.evaluation.capabilities import CAPABILITIES, CapabilityChange, task_values
from sr_core.evaluation.evaluate import HeldOut


@dataclass(frozen=True)
class Tiered:
    task_id: str
    tier: str
    prompt: str = "a:"


TASKS = [Tiered("a", "easy"), Tiered("b", "hard"), Tiered("c", "hard")]


def measured(passes: list[int], samples: int = 16) -> HeldOut:
    return HeldOut(pass1=0.0, se=0.0, unique=[1, 2, 3], well_formed=[4, 5, 6], passes=passes, samples=samples)


def test_the_vector_by_hand() -> None:
    change = CapabilityChange.between(TASKS, measured([16, 0, 8]), measured([16, 4, 0]))
    assert change.before == pytest.approx(
        {"pass1": 0.5, "pass16": 2 / 3, "hard": 0.25, "diversity": 2 / 16, "well_formed": 5 / 16}
    )
    assert change.after["hard"] == pytest.approx(0.125)
    # of hard: differences 1/4 and -1/2, so the standard error of their mean is 3/8
    assert math.sqrt(change.covariance["hard"]["hard"]) == pytest.approx(0.375)


def test_pass16_is_unbiased_and_needs_sixteen_samples() -> None:
    values = task_values(TASKS, measured([0, 1, 32], samples=32))
    assert values[:, CAPABILITIES.index("pass16")].tolist() == pytest.approx([0, 0.5, 1])
    fewer = measured([1, 2, 3], samples=8)
    assert "pass16" not in CapabilityChange.between(TASKS, fewer, fewer).before


def test_what_fewer_than_two_tasks_measure_is_left_out() -> None:
    tasks = [Tiered("a", "hard"), Tiered("b", ""), Tiered("c", "")]
    values = measured([1, 2, 3])
    assert "hard" not in CapabilityChange.between(tasks, values, values).before


def test_only_like_is_compared_with_like() -> None:
    """Fewer samples show fewer different answers of the same policy, and fewer than 16 no pass@16."""
    change = CapabilityChange.between(TASKS, measured([1, 0, 1], samples=1), measured([16, 4, 0]))
    assert change.before.keys() == change.after.keys() == change.covariance.keys() == {"pass1", "hard", "well_formed"}
    same = CapabilityChange.between(TASKS, measured([16, 4, 0], samples=32), measured([16, 4, 0], samples=32))
    assert {"diversity", "pass16"} <= same.before.keys()
    more = CapabilityChange.between(TASKS, measured([8, 2, 0]), measured([16, 4, 0], samples=32))
    assert "pass16" in more.before  # unbiased from any number of samples
    assert "diversity" not in more.before


def test_a_task_that_one_of_two_evaluations_did_not_measure_counts_in_neither() -> None:
    before = np.array([[0.0], [0.5], [1.0]])
    after = np.array([[0.2], [0.7], [np.nan]])
    change = CapabilityChange.of(before, after, ("a",))
    assert (change.before["a"], change.after["a"]) == pytest.approx((0.25, 0.45))


arrays = st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=2, max_size=12)


@given(arrays, st.randoms())
@settings(deadline=None)
def test_the_covariance_is_that_of_paired_means_whatever_the_order(rows: list[Any], random: Any) -> None:
    values = np.array(rows)
    before, after = values[:, :2], values[:, 2:]
    change = CapabilityChange.of(before, after, ("a", "b"))
    covariance = np.array([list(line.values()) for line in change.covariance.values()])
    np.testing.assert_allclose(covariance, np.cov((after - before).T) / len(rows), atol=1e-12)
    assert np.linalg.eigvalsh(covariance).min() >= -1e-12
    order = list(range(len(rows)))
    random.shuffle(order)
    assert CapabilityChange.of(before[order], after[order], ("a", "b")).after == pytest.approx(change.after)
