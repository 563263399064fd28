from __future__ import annotations

import io

import hypothesis.strategies as st
import pytest
from hypothesis import given
from rich.console import Console
from rich.text import Text

from sr_cli.live import curve, line, percent, sparkline, viewing

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


def test_the_table_shows_that_something_goes_on_from_the_first_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100)
    monkeypatch.setattr("sr_cli.live.Console", lambda stderr: console)
    row = {
        "campaign": 0,
        "step": 1,
        "train_reward": 0.5,
        "heldout_pass1": 0.5,
        "entropy": 0.1,
        "seconds": {"update": 1.0},
    }
    with viewing(4) as view:
        assert "loading" in out.getvalue()
        out.truncate(out.seek(0))
        view.show(row | {"decision": {"action": "roll_back", "reason": "it fell"}})
        plain = Text.from_ansi(out.getvalue()).plain.splitlines()
    assert [text for text in plain if "held-out pass@1" in text and "campaign" not in text] == ["held-out pass@1  ▅"]
    assert "→ it fell" in plain[-1]
