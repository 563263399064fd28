"""The tolerated fall is the smaller of a margin in points and a share of the peak."""

from hypothesis import given
from hypothesis import strategies as st

from sr_monitor.analysis.margin import MARGIN, collapse_at, margin_at

rates = st.floats(0, 1)


@given(rates, rates)
def test_a_higher_peak_never_tolerates_less(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert margin_at(low) <= margin_at(high) <= MARGIN
    assert collapse_at(low) <= collapse_at(high) <= 0.2


@given(st.floats(0.001, 1))
def test_losing_everything_is_never_tolerated_and_a_collapse_is_more_than_the_margin(peak: float) -> None:
    assert 0 < margin_at(peak) < collapse_at(peak) < peak


def test_from_a_peak_of_25_percent_on_the_points_count() -> None:
    assert (margin_at(0.2), collapse_at(0.25)) == (0.1, 0.2)
    assert margin_at(0.9, margin=0.3) == 0.3
