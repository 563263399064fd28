"""``sr grade``: formats in, rows out, exit codes."""

import json
import subprocess
import sys
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner

from sr_cli.commands.grade import command
from sr_reward import RewardError

TASK = {
    "task_id": "t1",
    "prompt": "def f(xs):\n",
    "entry_point": "f",
    "tests": {"kind": "calls", "cases": [{"args": [[1, 2]], "kwargs": {}, "expected": 3}]},
}
ASSERTS = {
    "task_id": "t2",
    "prompt": "def f(x):\n",
    "entry_point": "f",
    "tests": {"kind": "asserts", "code": "assert f(1) == 2\n"},
}
GOOD = {"task_id": "t1", "completion": "    return sum(xs)\n"}
BAD = {"task_id": "t1", "completion": "    return 0\n"}
WHOLE = {"task_id": "t2", "solution": "def f(x):\n    return x + 1\n"}


@pytest.fixture
def files(tmp_path):
    def write(name, rows):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return write


def sr_grade(*args):
    return subprocess.run(
        [sys.executable, "-m", "sr_cli", "grade", *args], capture_output=True, text=True, timeout=60, check=False
    )


def test_json_is_one_object_with_the_keys_of_the_contract(files, tmp_path):
    tasks, samples = files("tasks.jsonl", [TASK, ASSERTS]), files("samples.jsonl", [BAD, WHOLE, GOOD])
    done = sr_grade("--tasks", tasks, "--samples", samples, "--json", "--out", str(tmp_path / "out.jsonl"))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["tasks"] == 2
    assert result["samples"] == 3
    assert result["pass@1"] == pytest.approx(0.75)
    assert result["outcomes"]["passed"] == 2
    assert result["isolation"] in ("full", "landlock", "limits")
    assert result["programs_per_s"] > 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(row["task_id"], row["sample"], row["outcome"]) for row in rows] == [
        ("t1", 0, "failed"),
        ("t2", 0, "passed"),
        ("t1", 1, "passed"),
    ]
    assert all(row["seconds"] >= 0 for row in rows)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{", "line 2"),
        ('{"task_id": "t1"}', "neither"),
        ('{"task_id": "t9", "completion": ""}', "t9"),
        ('{"task_id": "t1", "completion": 3}', "completion"),
        ('{"task_id": "t1", "completion": null}', "null"),
        ('{"task_id": "t1", "completion": ["a", "b"]}', "list"),
        ("[1]", "object"),
    ],
)
def test_a_malformed_sample_is_named_and_nothing_is_graded(files, tmp_path, row, says):
    tasks, samples = files("tasks.jsonl", [TASK]), files("samples.jsonl", [GOOD])
    with open(samples, "a") as file:
        file.write(row + "\n")
    out = tmp_path / "out.jsonl"
    done = sr_grade("--tasks", tasks, "--samples", samples, "--out", str(out))
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "samples.jsonl, line 2" in done.stderr
    assert says in done.stderr
    assert not out.exists()


def test_a_malformed_task_is_named(files):
    tasks = files("tasks.jsonl", [TASK, {**TASK, "task_id": "t2", "tests": {"kind": "calls", "cases": []}}])
    done = sr_grade("--tasks", tasks, "--samples", files("samples.jsonl", [GOOD]))
    assert done.returncode == 2
    assert "tasks.jsonl, line 2" in done.stderr


@pytest.mark.parametrize(
    "extra",
    [
        ["--k", "5"],
        ["--k", "x"],
        ["--timeout", "-1"],
        ["--workers", "0"],
        ["--format", "apps"],
        ["--require-isolation", "total"],
        ["--isolation", "limits", "--require-isolation", "full"],
        ["--tasks", "missing.jsonl"],
        ["--out", "/no/such/folder/out.jsonl"],
    ],
)
def test_bad_settings_are_one_line_and_exit_2(files, extra):
    tasks, samples = files("tasks.jsonl", [TASK]), files("samples.jsonl", [GOOD])
    done = sr_grade("--tasks", tasks, "--samples", samples, *extra)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_out_is_continued_where_it_was_cut(files, tmp_path):
    tasks, samples = files("tasks.jsonl", [TASK, ASSERTS]), files("samples.jsonl", [BAD, WHOLE, GOOD])
    out = tmp_path / "out.jsonl"
    assert sr_grade("--tasks", tasks, "--samples", samples, "--out", str(out)).returncode == 0
    whole = [json.loads(line) for line in out.read_text().splitlines()]
    text = out.read_text()
    out.write_text(text[: text.index("\n") + 20])  # one row and a half, as a kill leaves it
    done = sr_grade("--tasks", tasks, "--samples", samples, "--out", str(out), "--json")
    assert "2 samples to grade" in done.stderr
    again = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["outcome"] for row in again] == [row["outcome"] for row in whole]
    assert json.loads(done.stdout)["pass@1"] == pytest.approx(0.75)


def test_the_output_of_another_run_is_not_overwritten(files, tmp_path):
    out = tmp_path / "out.jsonl"
    out.write_text('{"task_id": "other", "sample": 0, "outcome": "passed"}\n')
    before = out.read_text()
    done = sr_grade("--tasks", files("t.jsonl", [TASK]), "--samples", files("s.jsonl", [GOOD]), "--out", str(out))
    assert done.returncode == 2
    assert "another run" in done.stderr
    assert out.read_text() == before


@pytest.mark.parametrize("changed", ["sample", "task"])
def test_verdicts_of_other_samples_or_tasks_are_not_taken_for_these(files, tmp_path, changed):
    tasks, out = files("t.jsonl", [TASK]), str(tmp_path / "out.jsonl")
    bad, good = files("s1.jsonl", [BAD]), files("s2.jsonl", [GOOD])
    assert sr_grade("--tasks", tasks, "--samples", bad, "--out", out).returncode == 0
    if changed == "sample":
        done = sr_grade("--tasks", tasks, "--samples", good, "--out", out)
    else:
        other = files("t2.jsonl", [{**TASK, "prompt": TASK["prompt"] + "    # another\n"}])
        done = sr_grade("--tasks", other, "--samples", bad, "--out", out)
    assert done.returncode == 2
    assert "another run" in done.stderr


def test_a_full_disk_is_one_line(files):
    done = sr_grade("--tasks", files("t.jsonl", [TASK]), "--samples", files("s.jsonl", [GOOD]), "--out", "/dev/full")
    assert done.returncode == 2
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_table_names_the_level_and_the_interval(files):
    done = sr_grade("--tasks", files("t.jsonl", [TASK]), "--samples", files("s.jsonl", [GOOD]))
    assert done.returncode == 0
    assert "pass@1" in done.stdout
    assert "95% interval" in done.stdout
    assert "isolation" in done.stdout


PATCHED = {
    "task_id": "t3",
    "prompt": "def f():\n",
    "entry_point": "f",
    "tests": {
        "kind": "asserts",
        "code": "from unittest.mock import patch\nwith patch('time.time', return_value=5):\n    assert f() == 5\n",
    },
}


def test_tests_that_cannot_run_apart_are_counted_and_graded_with_separation_none(files, tmp_path):
    clock = {"task_id": "t3", "completion": "    import time\n    return time.time()\n"}
    tasks, samples = files("tasks.jsonl", [PATCHED, TASK]), files("samples.jsonl", [clock, GOOD])
    done = sr_grade("--tasks", tasks, "--samples", samples, "--json")
    assert json.loads(done.stdout)["unfit_tasks"] == 1
    assert "1 task has tests that cannot run here" in done.stderr
    assert "such as t3" in done.stderr
    assert "they patch time.time" in done.stderr
    assert "--separation none" in done.stderr
    out = tmp_path / "out.jsonl"
    done = sr_grade("--tasks", tasks, "--samples", samples, "--json", "--separation", "none", "--out", str(out))
    assert json.loads(done.stdout)["outcomes"]["passed"] == 2
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["separation"] for row in rows] == ["none", "processes"]


class Done(NamedTuple):
    returncode: int
    stderr: str
    result: dict[str, Any]


def grade_here(*args: str) -> Done:
    """The command in this process, with ``--json``: a process of its own costs seconds."""
    runner = CliRunner(mix_stderr=False) if "mix_stderr" in signature(CliRunner).parameters else CliRunner()
    done = runner.invoke(command, [*args, "--json"], standalone_mode=False)
    if isinstance(done.exception, RewardError):
        return Done(2, str(done.exception), {})
    return Done(done.return_value, done.stderr, json.loads(done.stdout))


@pytest.mark.parametrize("content", ['{"task_id": "t1", "completion": "x"}', "notes"])
def test_a_file_that_is_no_result_stays_as_it_is(files, tmp_path, content):
    out = tmp_path / "out.jsonl"
    out.write_text(content)  # without a final newline
    done = grade_here("--tasks", files("t.jsonl", [TASK]), "--samples", files("s.jsonl", [GOOD]), "--out", str(out))
    assert done.returncode == 2
    assert "name a new file" in done.stderr
    assert out.read_text() == content


def test_the_samples_are_not_taken_for_the_output(files):
    samples = files("s.jsonl", [GOOD])
    before = Path(samples).read_text().rstrip("\n")
    Path(samples).write_text(before)
    assert grade_here("--tasks", files("t.jsonl", [TASK]), "--samples", samples, "--out", samples).returncode == 2
    assert Path(samples).read_text() == before


def test_rows_that_cannot_be_graded_are_skipped_and_counted(files):
    rows = [
        {"problem_id": 1, "question": "q", "input_output": json.dumps({"inputs": ["1"], "outputs": ["1"]})},
        {"problem_id": 2, "question": "q", "input_output": ""},
        {"problem_id": 3, "question": "q", "input_output": json.dumps({"inputs": ["1"], "outputs": ["1"]})},
    ]
    samples = [{"task_id": 1, "solution": "print(input())"}, {"task_id": 2, "solution": "print(1)"}]
    done = grade_here("--tasks", files("t.jsonl", rows), "--samples", files("s.jsonl", samples), "--k", "1,1")
    assert done.returncode == 0, done.stderr
    assert "1 row skipped: 1 without tests; 1 sample of them left out" in done.stderr
    counts = [done.result[key] for key in ("tasks", "samples", "skipped", "without_samples", "pass@1")]
    assert counts == [1, 1, 1, 1, 1.0]


def test_where_nothing_can_be_graded_the_reason_is_printed_and_the_exit_code_is_1(files):
    unfit = {**ASSERTS, "tests": {"kind": "asserts", "code": "import no_such_module\nassert f(1) == 2\n"}}
    done = grade_here("--tasks", files("t.jsonl", [unfit]), "--samples", files("s.jsonl", [WHOLE]))
    assert done.returncode == 1
    assert "1 sample of 1 task not graded" in done.stderr
    assert "no_such_module" in done.stderr
    assert done.result["outcomes"]["infra_error"] == 1


def test_results_in_the_files_of_other_tools(files, tmp_path):
    args = ["--tasks", files("t.jsonl", [TASK, ASSERTS]), "--samples", files("s.jsonl", [GOOD, BAD, WHOLE])]
    assert grade_here(*args, "--results", str(tmp_path / "eval_results.json")).returncode == 0
    found = json.loads((tmp_path / "eval_results.json").read_text())["eval"]
    assert [row["base_status"] for row in found["t1"]] == ["pass", "fail"]
    assert found["t1"][0]["solution"] == TASK["prompt"] + GOOD["completion"]
    lists = str(tmp_path / "list.json")
    assert grade_here(*args, "--results", lists, "--results-format", "livecodebench").returncode == 0
    first = json.loads(Path(lists).read_text())[0]
    assert (first["question_id"], first["graded_list"], first["pass@1"]) == ("t1", [True, False], 0.5)


def test_a_place_for_results_is_refused_before_anything_is_graded(files, tmp_path):
    samples = files("s.jsonl", [GOOD])
    args = ["--tasks", files("t.jsonl", [TASK]), "--samples", samples, "--out", str(tmp_path / "out.jsonl")]
    for place in (str(tmp_path / "no" / "results.json"), str(tmp_path), samples):
        before = Path(samples).read_text()
        done = grade_here(*args, "--results", place)
        assert done.returncode == 2, place
        assert place in done.stderr
        assert Path(samples).read_text() == before
        assert not (tmp_path / "out.jsonl").exists()


def test_a_sample_without_a_verdict_is_neither_right_nor_wrong_in_the_results(files, tmp_path):
    unfit = {**ASSERTS, "tests": {"kind": "asserts", "code": "import no_such_module\nassert f(1) == 2\n"}}
    args = ["--tasks", files("t.jsonl", [TASK, unfit]), "--samples", files("s.jsonl", [GOOD, BAD, WHOLE])]
    lists = str(tmp_path / "list.json")
    for _ in range(2):  # results may be written anew
        assert grade_here(*args, "--results", lists, "--results-format", "livecodebench").returncode == 0
    rows = json.loads(Path(lists).read_text())
    assert [(row["graded_list"], row["pass@1"]) for row in rows] == [([True, False], 0.5), ([None], None)]


def test_an_answer_that_was_cut_off_is_trimmed_on_request(files):
    cut = {"task_id": "t2", "solution": "def f(x):\n    return x + 1\n\ndef g(x):\n    return (x"}
    args = ["--tasks", files("t.jsonl", [ASSERTS]), "--samples", files("s.jsonl", [cut])]
    assert grade_here(*args).result["pass@1"] == 0
    assert grade_here(*args, "--trim").result["pass@1"] == 1
