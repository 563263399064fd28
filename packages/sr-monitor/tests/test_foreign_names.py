"""Names of runs and columns come from outside: figures, pages and terminals show them and nothing happens."""

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sr_monitor import judge, read_runs
from sr_monitor.report.figures import MOST_NAMED, plot_curves, shown, svg_text, write_figure
from sr_monitor.report.html import render, write_report
from sr_monitor.report.terminal import view, visible

HOSTILE = [
    "<script>alert(1)</script>",
    "a$b_{$c",
    "_hidden",
    "日本語 🦊",
    "red\x1b[31m\x1b]0;title\x07",
    "two\nlines",
    "lone \udcff",
    "nul \x00",
    "x" * 300,
    'a" onload="alert(1)',
]


def log(folder: Path, names: list[str], column: str = "eval_accuracy") -> Path:
    path = folder / "log.jsonl"
    rows = [{"run": run, "step": step, column: 0.5 - step / 10} for run in names for step in range(5)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_any_name_is_shown_and_does_nothing(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    runs = read_runs(log(tmp_path, HOSTILE))
    assert len(runs) == len(HOSTILE)
    write_report(runs, tmp_path / "report.html")
    write_figure(runs, tmp_path / "curves.png")
    ET.parse(tmp_path / "curves.svg")
    page = (tmp_path / "report.html").read_text()
    assert "<script" not in page
    assert not re.search(r"<[^>]* onload=", page)
    assert page == visible(page)
    assert not recwarn.list


@pytest.mark.parametrize("name", HOSTILE)
def test_a_terminal_shows_any_name_in_one_line(name: str, tmp_path: Path) -> None:
    run = read_runs(log(tmp_path, [name, "other"]))[0]
    text = view(run, judge(run))
    assert text == visible(text)
    text.encode()
    assert text.split("\n")[0].endswith(": INSUFFICIENT")


def test_any_column_can_be_judged_and_drawn(tmp_path: Path) -> None:
    runs = read_runs(log(tmp_path, ["one"], "eval/a$b^{$<b>\x1b[2J/accuracy"))
    assert runs[0].metric is not None
    ET.fromstring(svg_text(plot_curves(runs)))


@given(st.text(max_size=200))
@settings(max_examples=40, deadline=None)
def test_a_shown_name_is_one_short_line_without_commands(text: str) -> None:
    name = shown(text)
    assert len(name.replace(r"\$", "$")) <= 62
    assert not name.startswith("_")
    assert name == visible(name)
    assert "\n" not in name
    name.encode()


def test_many_runs_do_not_hide_the_curves_behind_their_names(tmp_path: Path) -> None:
    path = log(tmp_path, [f"r{run}" for run in range(30)])
    legend = plot_curves(read_runs(path)).axes[0].get_legend()
    assert legend is not None
    names = [text.get_text() for text in legend.get_texts()]
    assert len(names) == MOST_NAMED
    assert names[-1] == f"log r{MOST_NAMED - 1} and {30 - MOST_NAMED} more"


def test_a_decision_that_says_little_is_reported(tmp_path: Path) -> None:
    rows = [
        {"campaign": 0, "step": step, "heldout_pass1": 0.5, "decision": {"action": "stop", "value": "NaN"}}
        for step in range(3)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "stop" in render(read_runs(tmp_path))
