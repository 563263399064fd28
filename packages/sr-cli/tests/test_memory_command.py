"""``sr memory`` shows what a memory file holds and what follows from it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sr_care import CapabilityDelta, CapabilityMemory, CareError, Context, Entry, Strategy
from sr_care.entry import Boundary
from sr_cli.commands.memory import command


@pytest.fixture
def db(tmp_path: Path) -> str:
    path = tmp_path / "m.db"
    entries = [
        Entry(
            strategy=Strategy(algorithm="grpo", lr=1e-3, steps=steps),
            context=Context(family="numbers", pass1=0.3, model_parameters=1.1e6),
            delta=CapabilityDelta.from_errors({"pass1": delta, "hard": delta / 2}, {"pass1": 0.02, "hard": 0.04}),
            boundary=Boundary(start=0.3, end=0.3 + delta),
            run=f"chain-{k % 2}",
            campaign=k // 2,
        )
        for k, (steps, delta) in enumerate([(10, 0.12), (20, -0.15)] * 4)
    ]
    with CapabilityMemory(path) as memory:
        memory.append_many(entries)
    return str(path)


def sr_memory(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments))


def as_json(*arguments: str) -> dict:
    result = sr_memory(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_list_shows_the_newest_entries_and_how_many_there_are(db: str) -> None:
    result = sr_memory("list", "--db", db, "--limit", "3")
    lines = result.stdout.splitlines()
    assert lines[-1].split() == ["3", "of", "8", "entries"]
    assert [line.split()[0] for line in lines[1:-1]] == ["6", "7", "8"]
    assert "-15.0 ± 2.0" in lines[1]


def test_list_filters_and_its_json_reads_back_as_entries(db: str) -> None:
    found = as_json("list", "--db", db, "--run", "chain-1")
    assert found["total"] == 8
    assert [Entry.from_dict(row).run for row in found["entries"]] == ["chain-1"] * 4


def test_show_prints_one_entry_in_full(db: str) -> None:
    result = sr_memory("show", "--db", db, "2")
    assert "pass1        -15.0 ± 2.0 points" in result.stdout
    assert as_json("show", "--db", db, "2")["strategy"]["steps"] == 20


def test_show_answers_whether_it_may_be_done_again(db: str) -> None:
    asked = ("show", "--db", db, "--steps", "20")
    answer = as_json(*asked)
    assert answer["action"] == "adapt"
    assert answer["strategy"]["steps"] * answer["strategy"]["lr"] < 20 * 1e-3
    assert answer["proposal"]["effects"]["pass1"][0] < 0
    text = sr_memory(*asked).stdout
    assert "ADAPT" in text
    assert f"rests on entry {answer['entries'][0]}" in text


def test_show_asks_about_the_newest_campaign_that_trained(db: str) -> None:
    expected = as_json("show", "--db", db)
    with CapabilityMemory(db) as memory:
        last = memory.entry(8)
        held = CapabilityDelta.from_errors({"pass1": 0.0}, {"pass1": 0.0})
        memory.append(replace(last, strategy=replace(last.strategy, steps=0), delta=held, campaign=9))
    answer = as_json("show", "--db", db)
    assert answer["total"] == expected["total"] + 1
    assert answer["proposal"] == expected["proposal"]


def test_show_draws_the_belief(db: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    result = sr_memory("show", "--db", db, "--figure", str(tmp_path / "belief.png"))
    assert result.exit_code == 0, result.output
    assert (tmp_path / "belief.png").read_bytes().startswith(b"\x89PNG")


def test_forget_sets_aside(db: str) -> None:
    assert as_json("forget", "--db", db, "--run", "chain-1", "--campaign", "0") == {"forgotten": 1, "total": 7}
    assert as_json("forget", "--db", db, "--id", "1", "--id", "3") == {"forgotten": 2, "total": 5}
    assert as_json("list", "--db", db)["total"] == 5


def test_export_writes_one_entry_a_line_and_never_over_a_file(db: str, tmp_path: Path) -> None:
    out = tmp_path / "entries.jsonl"
    assert as_json("export", "--db", db, "--out", str(out)) == {"out": str(out), "entries": 8}
    rows = out.read_text().splitlines()
    assert rows == sr_memory("export", "--db", db).stdout.splitlines()
    assert [json.loads(row) for row in rows] == as_json("export", "--db", db)["entries"]
    again = sr_memory("export", "--db", db, "--out", str(out)).exception
    assert isinstance(again, CareError)
    assert "new file" in str(again)
    assert len(out.read_text().splitlines()) == 8


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "99"],
        ["show", str(2**70)],
        ["forget"],
        ["forget", "--campaign", "1"],
        ["forget", "--id", "99"],
        ["forget", "--run", "chain-9"],
        ["show", "--lr", "-1"],
        ["show", "--pass1", "7"],
    ],
)
def test_bad_questions_are_errors_of_one_line(db: str, arguments: list[str]) -> None:
    error = sr_memory(arguments[0], "--db", db, *arguments[1:]).exception
    assert isinstance(error, CareError)
    assert "\n" not in str(error)


def test_an_empty_memory_is_asked_in_full_or_not_at_all(tmp_path: Path) -> None:
    path = str(tmp_path / "empty.db")
    CapabilityMemory(path).close()
    assert isinstance(sr_memory("show", "--db", path).exception, CareError)
    answer = as_json("show", "--db", path, "--algorithm", "grpo", "--lr", "1e-3", "--steps", "20")
    assert (answer["action"], answer["total"]) == ("reuse", 0)


def test_a_missing_file_is_refused_and_not_created(tmp_path: Path) -> None:
    result = sr_memory("forget", "--db", str(tmp_path / "none.db"), "--run", "r")
    assert result.exit_code == 2
    assert not (tmp_path / "none.db").exists()


@pytest.mark.parametrize("name", ["list", "show", "forget", "export"])
def test_every_help_has_an_example(name: str) -> None:
    assert "Example" in sr_memory(name, "--help").stdout
