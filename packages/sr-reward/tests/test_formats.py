"""Task and sample files: each published format, and every way in which a row can be wrong."""

import base64
import gzip
import json
import pickle
import zlib

import pytest
from published_rows import (
    APPS,
    APPS_CALL,
    BIGCODEBENCH,
    CODECONTESTS,
    DECODED,
    DEEPCODER,
    DEEPCODER_LISTS,
    EVALPLUS,
    HUMANEVAL,
    KODCODE,
    LIVECODEBENCH,
    MBPP,
    MBPPPLUS,
    NATIVE,
    PRIME,
    PRIMEINTELLECT,
    SANITIZED,
    TACO,
)

from sr_reward import AssertTests, CallTests, CodeGrader, FormatError, StdioTests, load_tasks
from sr_reward.formats import Skipped

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
    "livecodebench, decoded": (DECODED, CallTests, "def first(xs, x):\n    return xs[0] + x\n"),
    "taco": (TACO, StdioTests, "print(2 * int(input()))"),
    "deepcoder": (DEEPCODER, StdioTests, "print(2 * int(input()))"),
    "deepcoder, lists": (DEEPCODER_LISTS, CallTests, "def times(a, n):\n    return a * n\n"),
    "prime": (PRIME, StdioTests, "print(2 * int(input()))"),
    "primeintellect": (PRIMEINTELLECT, StdioTests, "print(2 * int(input()))"),
    "evalplus": (EVALPLUS, AssertTests, "def mean(xs):\n    return sum(x / len(xs) for x in xs)\n"),
    "mbpp plus": (MBPPPLUS, AssertTests, "def pairs(xs):\n    return sum(1 for x in set(xs))\n"),
    "bigcodebench": (BIGCODEBENCH, AssertTests, "def task_func(x):\n    return x ** 0.5 + 0\n"),
    "kodcode": (KODCODE, AssertTests, "def double(x):\n    return x + x\n"),
}


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


def test_codecontests_references_are_the_solutions_in_python_3(file):
    (task,) = load_tasks(file(CODECONTESTS))
    assert task.reference == "print(input())"


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
        ({**MBPP, "test_list": ["x = 1"]}, "call a function"),
        ({**APPS, "input_output": "{"}, "must be JSON"),
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
        load_tasks(file(NATIVE), "leetcode")
    with pytest.raises(FormatError, match="mbpp format"):
        load_tasks(file(NATIVE), "mbpp")


def test_published_rows_without_tests_are_skipped_and_counted(file):
    rows = [APPS, {**APPS, "problem_id": 8, "input_output": ""}, {**MBPP, "test_list": []}]
    skipped = Skipped()
    assert [task.task_id for task in load_tasks(file(*rows), skipped=skipped)] == ["7"]
    assert skipped.count == 2
    assert skipped.describe() == "2 rows skipped: 2 without tests"
    assert "8" in skipped.names


def test_a_file_in_which_nothing_can_be_graded_says_why(file):
    with pytest.raises(FormatError, match="1 row skipped: 1 without tests"):
        load_tasks(file({**APPS, "input_output": ""}))


def test_published_names_that_repeat_are_numbered(file):
    other = {**CODECONTESTS, "description": "Another."}
    assert [task.task_id for task in load_tasks(file(CODECONTESTS, other, other))] == ["p_A", "p_A#2", "p_A#3"]


def test_rows_without_a_name_are_called_by_their_number(file):
    found = [task.task_id for task in load_tasks(file(TACO, DEEPCODER, PRIME, TACO))]
    assert found == ["taco/0", "deepcoder/1", "prime/12", "taco/3"]
    nameless = {key: value for key, value in NATIVE.items() if key != "task_id"}
    assert [task.task_id for task in load_tasks(file(nameless, nameless))] == ["native/0", "native/1"]


def test_tests_of_contests_as_records(file):
    (task,) = load_tasks(file({**CODECONTESTS, "generated_tests": [{"input": "2\n", "output": "2\n"}]}))
    assert [case.stdin for case in task.tests.cases] == ["1\n", "2\n"]


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf", b"gzip"])
def test_a_byte_order_mark_and_gzip_without_its_suffix(tmp_path, content):
    path = tmp_path / "tasks.jsonl"
    text = json.dumps(NATIVE).encode()
    path.write_bytes(gzip.compress(text) if content == b"gzip" else content + text)
    assert [task.task_id for task in load_tasks(path)] == ["t1"]


@pytest.mark.parametrize(
    ("answers", "passes"),
    [
        ("{2: ['a'], 1: ['b']}", True),
        ("[{2: ['a'], 1: ['b']}]", True),
        ("{'2': ['a'], '1': ['b']}", False),
    ],
)
def test_keys_of_dicts_that_json_made_texts_are_whole_numbers(file, grader, answers, passes):
    calls = {"inputs": [[{"5": 1}]], "outputs": [[{"2": ["a"], "1": ["b"]}]], "fn_name": "f"}
    (task,) = load_tasks(file({**APPS, "input_output": json.dumps(calls)}))
    source = f"def f(d):\n    return {answers} if d == {{5: 1}} else None\n"
    (grade,) = grader.grade([task], [source], solutions=True)
    assert (grade.outcome == "passed") == passes, grade
