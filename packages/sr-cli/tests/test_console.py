from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from sr_cli.console import viewing
from sr_monitor.report.terminal import row_text


def test_a_row_says_why_the_guard_acted() -> None:
    row = {"campaign": 0, "step": 3, "train_reward": 0.5, "heldout_pass1": None}
    acted = row | {"decision": {"action": "roll_back", "reason": "it fell"}}
    assert "reward  50.0%" in row_text(acted)
    assert row_text(acted).endswith("roll_back: it fell")


def test_the_table_shows_that_something_goes_on_from_the_first_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100)
    monkeypatch.setattr("sr_cli.console.Console", lambda stderr: console)
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
    assert [text for text in plain if "held-out pass@1" in text and "campaign" not in text] == ["held-out pass@1  ▄"]
    assert "→ it fell" in plain[-1]
