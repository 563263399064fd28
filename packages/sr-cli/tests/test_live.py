from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from sr_cli.live import curve, line, percent, sparkline

shares = st.lists(st.none() | st.floats(0, 1), min_size=1, max_size=200)


@given(shares)
def test_a_sparkline_has_one_character_per_value(values: list[float | None]) -> None:
    drawn = sparkline(values)
    assert len(drawn) == len(values)
    assert [c == " " for c in drawn] == [v is None for v in values]


@given(shares, shares)
def test_a_curve_keeps_its_size_and_places_every_series(first: list[float | None], second: list[float | None]) -> None:
    lines = curve({"unguarded": first, "guarded": second}, height=8, width=64).splitlines()
    assert len(lines) == 10
    assert max(map(len, lines[:8])) <= 7 + 64
    assert ("g" in "".join(lines[:8])) == any(v is not None for v in second)


def test_a_high_value_is_drawn_high() -> None:
    lines = curve({"u": [0.0, 1.0]}, height=4).splitlines()
    assert lines[0].endswith("u")
    assert lines[3].index("u") < lines[0].index("u")


def test_a_row_says_why_the_guard_acted() -> None:
    row = {"campaign": 0, "step": 3, "train_reward": 0.5, "heldout_pass1": None}
    acted = row | {"decision": {"action": "roll_back", "reason": "it fell"}}
    assert "reward  50.0%" in line(acted)
    assert line(acted).endswith("roll_back: it fell")
    assert percent(None) == "–"
