"""The paper's quantities, on curves worked by hand and as laws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sr_monitor import MonitorError, Trajectory, collapse_rate

CURVE = Trajectory.from_rates(range(7), [0.2, 0.4, 0.8, 0.7, 0.75, 0.2, 0.1])


def test_quantities_of_a_hand_made_collapse() -> None:
    assert (CURVE.start, CURVE.peak, CURVE.peak_step, CURVE.end) == (0.2, 0.8, 2, 0.1)
    assert CURVE.gap == pytest.approx(0.7)
    assert CURVE.collapsed
    assert CURVE.one_step_share == pytest.approx(0.55 / 0.7)
    assert CURVE.onset == 5
    assert CURVE.pass1_per_100_steps == pytest.approx(100 * 100 * (0.1 - 0.2) / 6)


def test_a_dip_that_recovers_is_no_collapse() -> None:
    curve = Trajectory.from_rates([0, 5, 10, 15], [0.5, 0.9, 0.3, 0.85])
    assert not curve.collapsed
    assert curve.onset is None


def test_counts_give_the_same_curve_as_their_rates() -> None:
    curve = Trajectory.from_counts([0, 1], [[0, 8, 16], [16, 16, 16]], 16)
    assert curve.pass1_E.tolist() == [0.5, 1.0]
    assert (curve.standard_errors_E() > 0).all()


def test_collapse_rate_counts_campaigns() -> None:
    flat = Trajectory.from_rates([0, 1], [0.5, 0.5])
    assert collapse_rate([CURVE, flat, flat, flat]) == 0.25


rates = st.lists(st.floats(0, 1), min_size=1, max_size=40)


@given(rates)
@settings(max_examples=100, deadline=None)
def test_laws(curve: list[float]) -> None:
    t = Trajectory.from_rates(range(len(curve)), curve)
    assert 0 <= t.gap <= t.peak
    assert t.start <= t.peak
    assert t.peak_step in t.steps
    if t.onset is not None:
        assert t.onset > t.peak_step
    if t.one_step_share is not None and len(curve) - t.peak_step > 1:
        assert t.one_step_share > 0


@pytest.mark.parametrize(
    ("steps", "curve", "says"),
    [
        ([0, 0], [0.1, 0.2], "increase"),
        ([], [], "at least one"),
        ([0], [np.nan], "in \\[0, 1\\]"),
        ([0], [25.0], "percentages"),
        ([0, 1], [0.1], "one pass@1 per step"),
    ],
)
def test_what_is_no_curve_is_refused(steps: list[int], curve: list[float], says: str) -> None:
    with pytest.raises(MonitorError, match=says):
        Trajectory.from_rates(steps, curve)
