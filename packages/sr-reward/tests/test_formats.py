"""Task and sample files: each published format, and every way in which a row can be wrong."""

import base64
import gzip
import json
import pickle
import zlib

import pytest

from sr_reward import AssertTests, CallTests, CodeGrader, FormatError, StdioTests, load_samples, load_tasks

NATIVE = {
    "task_id": "t1",
    "prompt": "def f(xs):\n",
    "entry_point": "f",
    "tests": {"kind": "calls", "cases": [{"args": [[1, 2]], "kwargs": {}, "expected": 3}]},
}
HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": "def f(x):\n    '''Double.'''\n",
    "entry_point": "f",
    "canonical_solution": "    return 2 * x\n",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n",
}
MBPP = {
    "task_id": 601,
    "text": "Write a function to double.",
    "code": "def helper(x):\r\n  return x\r\ndef double(x):\r\n  return 2 * helper(x)",
    "test_setup_code": "",
    "test_list": ["assert double(2) == 4"],
    "challenge_test_list": [],
}
SANITIZED = {**{k: v for k, v in MBPP.items() if k != "text"}, "prompt": "Double.", "test_imports": ["import math"]}
APPS = {
    "problem_id": 7,
    "question": "Add two numbers.",
    "starter_code": "",
    "input_output": json.dumps({"inputs": ["1 2\n", ["3", "4"]], "outputs": ["3\n", ["7"]]}),
}
APPS_CALL = {
    "problem_id": 8,
    "question": "Add.",
    "starter_code": "class Solution:\n    def add(self, a, b):\n",
    "input_output": json.dumps({"fn_name": "add", "inputs": [[1, 2]], "outputs": [[3]]}),
}
CODECONTESTS = {
    "name": "p_A",
    "description": "Echo.",
    "public_tests": {"input": ["1\n"], "output": ["1\n"]},
    "private_tests": {"input": [], "output": []},
    "generated_tests": {"input": ["2\n"], "output": ["2\n"]},
}
HIDDEN = json.dumps([{"input": "[3]\n1", "output": "4", "testtype": "functional"}])
LIVECODEBENCH = {
    "question_id": "q1",
    "question_content": "Add x to the first item.",
    "starter_code": "class Solution:\n    def first(self, xs, x):\n",
    "public_test_cases": json.dumps([{"input": "[1]\n2", "output": "3", "testtype": "functional"}]),
    "private_test_cases": base64.b64encode(zlib.compress(pickle.dumps(HIDDEN))).decode(),
    "metadata": json.dumps({"func_name": "first"}),
}
EVERY = {
    "native": (NATIVE, CallTests, "def f(xs):\n    return sum(xs)\n"),
    "humaneval": (HUMANEVAL, AssertTests, "def f(x):\n    return x + x\n"),
    "mbpp": (MBPP, AssertTests, "def double(x):\n    return x * 2\n"),
    "sanitized mbpp": (SANITIZED, AssertTests, "def double(x):\n    return x * 2\n"),
    "apps": (APPS, StdioTests, "print(sum(map(int, open(0).read().split())))"),
    "apps call": (APPS_CALL, CallTests, "class Solution:\n    def add(self, a, b):\n        return a + b\n"),
    "codecontests": (CODECONTESTS, StdioTests, "print(input())"),
    "livecodebench": (
        LIVECODEBENCH,
        CallTests,
        "class Solution:\n    def first(self, xs, x):\n        return xs[0] + x\n",
    ),
}


@pytest.fixture
def file(tmp_path):
    def write(*rows, name="tasks.jsonl"):
        path = tmp_path / name
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return path

    return write


@pytest.fixture(scope="module")
def grader():
    with CodeGrader(workers=1) as made:
        yield made


@pytest.mark.parametrize("name", EVERY)
def test_each_format_is_recognized_and_grades_a_right_and_a_wrong_program(file, grader, name):
    row, kind, right = EVERY[name]
    (task,) = load_tasks(file(row))
    assert isinstance(task.tests, kind)
    wrong = right.replace("+", "-").replace("*", "-").replace("sum", "len").replace("input()", "'x'")
    grades = grader.grade([task] * 2, [right, wrong], solutions=True)
    assert [grade.outcome for grade in grades] == ["passed", "failed"], grades


@pytest.mark.parametrize(
    ("row", "near"),
    [
        ({**APPS, "input_output": json.dumps({"inputs": [""], "outputs": ["0.5"]})}, ["0.50", "0.500001"]),
        ({**CODECONTESTS, "public_tests": {"input": [""], "output": ["0.5"]}, "generated_tests": None}, ["0.50"]),
        (
            {
                **LIVECODEBENCH,
                "public_test_cases": json.dumps([{"input": "", "output": "0.5", "testtype": "stdin"}]),
                "private_test_cases": "[]",
                "metadata": "{}",
            },
            ["0.50", "5e-1"],
        ),
    ],
)
def test_printed_numbers_are_compared_as_the_published_graders_do(file, grader, row, near):
    (task,) = load_tasks(file(row))
    programs = [f"print('{text}')" for text in (*near, "0.51")]
    outcomes = [grade.outcome for grade in grader.grade([task] * len(programs), programs, solutions=True)]
    assert outcomes == ["passed"] * len(near) + ["failed"]


def test_the_entry_point_of_mbpp_is_the_tested_function(file):
    assert load_tasks(file(MBPP))[0].entry_point == "double"


@pytest.mark.parametrize("wrap", ["array", "gzip"])
def test_arrays_and_gzip(tmp_path, wrap):
    rows = [NATIVE, {**NATIVE, "task_id": "t2"}]
    path = tmp_path / ("tasks.json" if wrap == "array" else "tasks.jsonl.gz")
    if wrap == "array":
        path.write_text(json.dumps(rows, indent=2))
    else:
        path.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    assert [task.task_id for task in load_tasks(path)] == ["t1", "t2"]


def test_python_literals_say_what_json_cannot(file):
    case = {"args": [{"$py": "(1, 2)"}], "expected": [{"$py": "{3}"}]}
    (task,) = load_tasks(file({**NATIVE, "tests": {"kind": "calls", "cases": [case]}}))
    assert task.tests.cases[0].args == ((1, 2),)
    assert task.tests.cases[0].expected == [{3}]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{not json", "JSON"),
        ("[" * 100000, "JSON"),
        ("3", "object"),
        ("{}", "native task"),
        ({**NATIVE, "tests": 3}, "tests.kind"),
        ({**NATIVE, "tests": {"kind": "magic"}}, "magic"),
        ({**NATIVE, "tests": {"kind": "calls"}}, "cases"),
        ({**NATIVE, "tests": {"kind": "calls", "cases": []}}, "non-empty"),
        ({**NATIVE, "tests": {"kind": "calls", "cases": [{"args": []}]}}, "expected"),
        ({**NATIVE, "tests": {"kind": "calls", "cases": [{"args": 3, "expected": 1}]}}, "args"),
        ({**NATIVE, "tests": {"kind": "calls", "cases": [3]}}, "not a task"),
        ({**NATIVE, "entry_point": "not a name"}, "entry_point"),
        ({**NATIVE, "task_id": None}, "task_id"),
        ({**NATIVE, "prompt": 3}, "prompt"),
        (NATIVE, "stands already in line 1"),
        ({**HUMANEVAL, "test": None}, "test must be a text"),
        ({**MBPP, "test_list": ["assert ("]}, "not a task"),
        ({**MBPP, "test_list": []}, "call a function"),
        ({**APPS, "input_output": "{"}, "not a task"),
        ({**APPS, "input_output": {"inputs": ["1"], "outputs": []}}, "in pairs"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_line(file, row, says):
    with pytest.raises(FormatError, match=r"tasks\.jsonl, line 2: ") as caught:
        load_tasks(file(NATIVE, row))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_pickle_that_loads_code_is_refused(file):
    class Evil:
        def __reduce__(self):
            return print, ("ran",)

    packed = base64.b64encode(zlib.compress(pickle.dumps(Evil()))).decode()
    with pytest.raises(FormatError, match="loads"):
        load_tasks(file({**LIVECODEBENCH, "private_test_cases": packed}))


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe{}"])
def test_files_without_tasks(tmp_path, content):
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"tasks\.jsonl"):
        load_tasks(path)


def test_a_missing_file_and_an_unknown_format(tmp_path, file):
    with pytest.raises(FormatError, match="cannot be read"):
        load_tasks(tmp_path / "no.jsonl")
    with pytest.raises(FormatError, match="one of auto"):
        load_tasks(file(NATIVE), "apps")
    with pytest.raises(FormatError, match="mbpp format"):
        load_tasks(file(NATIVE), "mbpp")


def test_samples_name_their_task_in_either_writing(file):
    tasks = {task.task_id: task for task in load_tasks(file(MBPP))}
    rows = [{"task_id": 601, "solution": "a"}, {"task_id": "Mbpp/601", "completion": "b"}]
    found = load_samples(file(*rows, name="samples.jsonl"), tasks)
    assert [(sample.task_id, sample.text, sample.solution) for sample in found] == [
        ("601", "a", True),
        ("601", "b", False),
    ]
