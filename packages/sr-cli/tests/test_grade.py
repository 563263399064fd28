"""``sr grade``: formats in, rows out, exit codes."""

import json
import subprocess
import sys

import pytest

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
    assert "t3: they patch time.time" in done.stderr
    assert "--separation none" in done.stderr
    out = tmp_path / "out.jsonl"
    done = sr_grade("--tasks", tasks, "--samples", samples, "--json", "--separation", "none", "--out", str(out))
    assert json.loads(done.stdout)["outcomes"]["passed"] == 2
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["separation"] for row in rows] == ["none", "processes"]
