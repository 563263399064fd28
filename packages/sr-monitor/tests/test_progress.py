"""How far a long task is, on a terminal and in a log."""

from __future__ import annotations

import itertools

import pytest

from sr_monitor.report.progress import Progress


def lines_of(capsys: pytest.CaptureFixture[str], each_s: float, total: int, monkeypatch: pytest.MonkeyPatch) -> str:
    clock = itertools.count(0.0, each_s)
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    progress = Progress(what="tasks")
    for _ in range(total):
        progress.of(total)
    return capsys.readouterr().err


def test_a_log_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    text = lines_of(capsys, 20.0, 400, monkeypatch)
    assert text.splitlines()[0] == "2/400 tasks · 20.0 s each · 2 h 13 min left"
    assert text.splitlines()[-1] == "400/400 tasks · 20.0 s each · 0 s left"
    assert len(text.splitlines()) == 200
    assert "\r" not in text
    assert "\x1b" not in text
    assert lines_of(capsys, 0.1, 200, monkeypatch) == ""


def test_a_terminal_has_one_line_that_ends_with_the_task(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    text = lines_of(capsys, 0.1, 30, monkeypatch)
    assert text.startswith("\r3/30 tasks · 10/s · 3 s left\x1b[K\r")
    assert text.endswith("30/30 tasks · 10/s · 0 s left\x1b[K\n")
    assert text.count("\n") == 1
