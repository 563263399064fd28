"""Charts made of text."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from sr_monitor.report.terminal import chart, percent, plot, sparkline

shares = st.lists(st.none() | st.floats(0, 1), min_size=1, max_size=200)


@given(shares)
def test_a_sparkline_with_room_has_one_character_per_value(values: list[float | None]) -> None:
    drawn = sparkline(values, width=200, top=1.0)
    if any(value is not None for value in values):
        assert len(drawn) == len(values)
        assert [c == " " for c in drawn] == [v is None for v in values]


@given(shares, shares)
def test_a_chart_keeps_its_size_and_places_every_series(first: list[float | None], second: list[float | None]) -> None:
    series = {m: [(i, v) for i, v in enumerate(s) if v is not None] for m, s in (("u", first), ("g", second))}
    lines = chart(series, height=8, width=64).splitlines()
    assert len(lines) == 10
    assert max(map(len, lines[:8])) <= 7 + 64
    assert ("g" in "".join(lines[:8])) == any(v is not None for v in second)


def test_a_high_value_is_drawn_high() -> None:
    lines = chart({"u": [(0, 0.0), (1, 1.0)]}, height=4).splitlines()
    assert lines[0].endswith("u")
    assert lines[3].index("u") < lines[0].index("u")
    assert plot([0, 1], [0.0, 1.0], height=4).replace("●", "u").splitlines() == lines


def test_percentages() -> None:
    assert [percent(value) for value in (None, 0.5, 1.0)] == ["–", "50.0%", "100.0%"]
