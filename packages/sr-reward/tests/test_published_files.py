"""Task files as they are published: what their rows hold beside the plain case, and files that are not read."""

import bz2
import gzip
import json
import lzma
import os
import threading

import published_rows
import pytest
from hypothesis import given
from hypothesis import strategies as st
from published_rows import APPS, HUMANEVAL, KODCODE, LIVECODEBENCH, MBPP, NATIVE, PRIME, PRIMEINTELLECT, TACO

from sr_reward import CodeGrader, FormatError, load_tasks
from sr_reward.canonical import canonical
from sr_reward.formats import Skipped
from sr_reward.formats.fields import read_json
from sr_reward.formats.files import iter_tasks_and_rows
from sr_reward.grading.selection import write_selection
from sr_reward.prompts import render


@pytest.fixture(scope="module")
def grader():
    with CodeGrader(workers=1) as made:
        yield made


def outcomes(grader, path, *programs):
    (task,) = load_tasks(path)
    return [grade.outcome for grade in grader.grade([task] * len(programs), programs, solutions=True)]


def pairs(**held):
    return {**TACO, "input_output": json.dumps(held)}


# whole numbers of any length


@given(st.integers(min_value=1, max_value=9000), st.sampled_from([-1, 1]))
def test_a_whole_number_of_any_length_is_read_and_written(digits, sign):
    text = "-" * (sign < 0) + "7" * digits
    wanted = sign * 7 * (10**digits - 1) // 9
    assert read_json(f"[{text}]") == [wanted]
    assert eval(canonical((wanted,))) == (wanted,)


def test_a_row_of_taco_with_6000_digits_is_graded(file, grader):
    row = {**TACO, "input_output": f'{{"inputs": [[6000]], "outputs": [[{"1" * 6000}]], "fn_name": "ones"}}'}
    right, wrong = "def ones(n): return (10**n - 1) // 9", "def ones(n): return (10**n - 1) // 9 + 1"
    assert outcomes(grader, file(row), right, wrong) == ["passed", "failed"]


def test_programs_of_livecodebench_may_read_and_print_50000_digits(file, grader):
    row = {
        **LIVECODEBENCH,
        "public_test_cases": json.dumps([{"input": "7" * 9000, "output": "7" * 8999 + "8", "testtype": "stdin"}]),
        "private_test_cases": "[]",
        "metadata": "{}",
    }
    assert outcomes(grader, file(row), "print(int(input()) + 1)") == ["passed"]


# what the graders of APPS and TACO define


@pytest.mark.parametrize("row", [APPS, TACO])
def test_stdin_and_stdout_are_names_as_in_the_grader_of_apps(file, grader, row):
    row = {**row, "input_output": json.dumps({"inputs": ["3\n4\n"], "outputs": ["7\n"]})}
    program = "total = int(stdin.readline()) + int(stdin.readline())\nstdout.write(str(total))\n"
    assert outcomes(grader, file(row), program) == ["passed"]


def test_numbers_among_texts_are_printed(file, grader):
    assert outcomes(grader, file(pairs(inputs=[3, ["4"]], outputs=[6, [8]])), "print(2 * int(input()))") == ["passed"]


def test_calls_that_are_not_written_as_data_are_skipped(file):
    skipped = Skipped()
    rows = [
        pairs(inputs=["N = 2\nA = {1, 2}"], outputs=["3"], fn_name="total"),
        pairs(inputs=["2\n[1, 2]"], outputs=["three"], fn_name="total"),
        pairs(inputs=["2\n[1, 2]"], outputs=["3"], fn_name="total"),
    ]
    (task,) = load_tasks(file(*rows), skipped=skipped)
    assert (task.task_id, task.tests.cases[0].args, task.tests.cases[0].expected) == ("taco/2", (2, [1, 2]), 3)
    assert skipped.describe() == "2 rows skipped: 2 whose calls are not written as data"


def test_records_in_the_place_of_pairs(file, grader):
    row = {**APPS, "input_output": json.dumps([{"input": "3\n", "output": "6\n"}])}
    assert outcomes(grader, file(row), "print(2 * int(input()))", "print(input())") == ["passed", "failed"]


# rows of verifiers


@pytest.mark.parametrize("answer", ["\\frac{1}{2}", "34", "[1, 2]", "{1, 2}", '"x"', "", None, "{'a': "])
def test_problems_of_mathematics_among_those_of_programs_are_skipped(file, answer):
    skipped = Skipped()
    row = {**PRIME, "data_source": "numina", "reward_model": {"style": "rule", "ground_truth": answer}}
    (task,) = load_tasks(file(row, PRIME), skipped=skipped)
    assert task.task_id == "prime/12"
    assert skipped.describe() == "1 row skipped: 1 whose ground truth holds no tests of programs"


@pytest.mark.parametrize("write", [json.dumps, str, lambda held: held])
@pytest.mark.parametrize("nested", [False, True])
def test_verification_info_as_data_json_or_a_python_literal(file, grader, write, nested):
    records = [{"type": "stdin_stdout", "input": "3", "output": "6", "fn_name": None}]
    pair = json.dumps({"inputs": ["3\n"], "outputs": ["6\n"]})
    held = {"language": "python", "test_cases": pair if nested else records}
    row = {**PRIMEINTELLECT, "verification_info": write(held)}
    assert outcomes(grader, file(row), "print(2 * int(input()))", "print(int(input()))") == ["passed", "failed"]


def test_programs_of_other_languages_are_skipped(file):
    skipped = Skipped()
    rows = [
        {**PRIMEINTELLECT, "problem_id": name, "verification_info": json.dumps({"language": name, **TESTS})}
        for name in ("rust", "python", "cpp")
    ]
    assert [task.task_id for task in load_tasks(file(*rows), skipped=skipped)] == ["python"]
    assert skipped.describe() == "2 rows skipped: 2 whose programs are not Python"


TESTS = {"test_cases": [{"input": "1", "output": "1"}]}


def test_records_of_livecodebench_under_a_verifier(file, grader):
    records = [
        {"input": "[3]\n1", "output": "4", "testtype": "functional", "metadata": {"func_name": "first"}},
    ]
    row = {**PRIME, "reward_model": {"style": "rule", "ground_truth": json.dumps(records)}}
    right = "class Solution:\n    def first(self, xs: List[int], x):\n        return xs[0] + x\n"
    assert outcomes(grader, file(row), right, right.replace("+", "-")) == ["passed", "failed"]
    assert load_tasks(file(row))[0].format == "livecodebench"


# functions


def test_mbpp_plus_as_a_data_set_is_graded_by_its_whole_test(file, grader):
    row = {
        "task_id": 601,
        "code": "def double(x):\n    return 2 * x",
        "prompt": "Write a function to double.",
        "test_imports": [],
        "test_list": ["assert double(2) == 4"],
        "test": "inputs, results = [[2], [3]], [4, 6]\n"
        "def assertion(out, exp, atol):\n    assert out == exp\n"
        "for given, wanted in zip(inputs, results):\n    assertion(double(*given), wanted, 0)\n",
    }
    right, wrong = "def double(x): return x + x", "def double(x): return x * x"
    assert outcomes(grader, file(row), right, wrong) == ["passed", "failed"]
    assert "assert double(2) == 4" in render(load_tasks(file(row))[0], style="chat").messages[-1]["content"]


LEETCODE = {
    "task_id": "shift-list",
    "question_id": 9001,
    "difficulty": "Medium",
    "problem_description": 'Add k to each node of a list, as in """1 -> 2""".\nAnswer \\n with the head.',
    "starter_code": "class Solution:\n    def shift(self, head: Optional[ListNode], k: int) -> ListNode:\n        ",
    "prompt": "from typing import *\n\n\nclass ListNode:\n    def __init__(self, val=0, next=None):\n"
    "        self.val, self.next = val, next\n\n\ndef list_node(values):\n    head = None\n"
    "    for value in reversed(values):\n        head = ListNode(value, head)\n    return head\n\n\n"
    "def is_same_list(a, b):\n    while a and b and a.val == b.val:\n        a, b = a.next, b.next\n"
    "    return a is None and b is None\n",
    "completion": "class Solution:\n    def shift(self, head, k):\n        return None\n",
    "entry_point": "Solution().shift",
    "test": "def check(candidate):\n"
    "    assert is_same_list(candidate(head=list_node([1, 2]), k=3), list_node([4, 5]))\n",
    "input_output": [{"input": "head = [1, 2], k = 3", "output": "[4, 5]"}],
}


def test_methods_of_leetcode_are_tested_with_the_helpers_of_the_row(file, grader):
    (task,) = load_tasks(file(LEETCODE))
    assert (task.task_id, task.tier, task.entry_point) == ("shift-list", "medium", "Solution")
    body = "at = head\n        while at:\n            at.val += k\n            at = at.next\n        return head\n"
    whole = LEETCODE["starter_code"] + body
    assert outcomes(grader, file(LEETCODE), whole, whole.replace("+= k", "+= 2")) == ["passed", "failed"]
    (grade,) = grader.grade([task], [body])
    assert grade.outcome == "passed", grade


CODEFORCES = {
    "id": "9001/A",
    "description": "Say whether n is even.",
    "input_format": "One number n.",
    "output_format": "YES or NO.",
    "interaction_format": None,
    "examples": [{"input": "2", "output": "YES"}],
    "official_tests": [{"input": "2\n", "output": "YES\n"}, {"input": "3\n", "output": "NO\n"}],
    "official_tests_complete": True,
    "generated_checker": None,
    "input_mode": "stdio",
    "rating": 800,
}


def test_problems_of_codeforces_are_graded_by_their_official_tests(file, grader):
    skipped = Skipped()
    others = [
        {"interaction_format": "Ask."},
        {"input_mode": "file"},
        {"generated_checker": "x"},
        {"official_tests": []},
    ]
    rows = [{**CODEFORCES, **other} for other in others]
    (task,) = load_tasks(file(CODEFORCES, *rows), skipped=skipped)
    assert (task.task_id, task.tier, skipped.count) == ("9001/A", "800", 4)
    assert "Input\n\nOne number n." in task.prompt
    right = "print('NO' if int(input()) % 2 else 'YES')"
    assert outcomes(grader, file(CODEFORCES), right, "print('YES')") == ["passed", "failed"]


def test_complex_numbers_and_empty_dicts_of_mbpp_plus(file, grader):
    row = {
        "task_id": "Mbpp/9000",
        "prompt": "",
        "entry_point": "size",
        "canonical_solution": "def size(z, ds):\n    return abs(z) + sum(d == {} for d in ds)\n",
        "base_input": [["1", [[], [1, 2]]], ["(3+4j)", [[]]]],
        "plus_input": [["-2j", []]],
        "assertion": "assert size(1, [{}, {1, 2}]) == 2\nassert size(3 + 4j, [{}]) == 6\n",
        "atol": 0,
    }
    right = "def size(z, ds):\n    return (z * z.conjugate()).real ** 0.5 + sum(type(d) is dict for d in ds)\n"
    assert outcomes(grader, file(row), right, "def size(z, ds): return 2.0") == ["passed", "failed"]


@pytest.mark.parametrize(
    "taken",
    [
        "from solution import double\n{}double(2) == 4\n",
        "from solution import (\n    double,\n)\n{}double(2) == 4\n",
        "import solution\n{}solution.double(2) == 4\n",
        "from solution import *\nfrom solution import double\n{}double(2) == 4\n",
    ],
)
@pytest.mark.parametrize("info", [None, KODCODE["test_info"], json.dumps(KODCODE["test_info"])])
def test_tests_of_kodcode_take_the_function_in_any_way(file, grader, taken, info):
    row = {**KODCODE, "test_info": info, "test": taken.format("def test_a():\n    assert ")}
    assert load_tasks(file(row))[0].entry_point == "double"
    if info is None:
        assert outcomes(grader, file(row), "def double(x): return x + x", "def double(x): return x") == [
            "passed",
            "failed",
        ]


# tiers


@pytest.mark.parametrize(
    ("row", "tier"),
    [
        ({**APPS, "difficulty": "interview"}, "interview"),
        ({**TACO, "difficulty": "VERY_HARD"}, "very_hard"),
        ({**TACO, "difficulty": None}, ""),
        ({**LIVECODEBENCH, "difficulty": "medium"}, "medium"),
        ({**KODCODE, "gpt_difficulty": "hard", "difficulty": "x"}, "hard"),
        ({**KODCODE, "difficulty": "Easy"}, "easy"),
        (MBPP, ""),
    ],
)
def test_the_tier_of_a_task_is_its_published_difficulty(file, row, tier):
    assert load_tasks(file(row))[0].tier == tier


def test_taco_and_apps_are_told_apart_by_the_tags_of_taco(file):
    names = [task.format for task in load_tasks(file(TACO, APPS, {**TACO, "raw_tags": None}))]
    assert names == ["taco", "apps", "taco"]


PUBLISHED = {name: row for name, row in vars(published_rows).items() if isinstance(row, dict) and name.isupper()}
PUBLISHED.pop("NATIVE")  # must not repeat


@pytest.mark.parametrize("row", PUBLISHED.values(), ids=PUBLISHED)
def test_a_selection_keeps_the_names_that_repeated_or_missing_ones_were_given(file, tmp_path, row):
    rows = {task.task_id: row for task, row in iter_tasks_and_rows(file(row, {**row, "more": 1}))}
    second = list(rows)[1]
    write_selection(tmp_path / "some.jsonl", rows, [second], {second: (2, 1)}, {})
    assert [task.task_id for task in load_tasks(tmp_path / "some.jsonl")] == [second]


# files


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"PAR1\x15\x04", "from_parquet"),
        (b"ARROW1\x00\x00", "from_file"),
        (b"\xff\xff\xff\xff\x10\x00", "from_file"),
        (b"PK\x03\x04", "zip archive; unpack it"),
        (b"\x28\xb5\x2f\xfd\x00", "zstd; unpack it"),
        (lzma.compress(b"{}"), "xz; unpack it"),
        (bz2.compress(b"{}"), "bzip2; unpack it"),
    ],
)
def test_files_that_are_not_read_say_what_they_are_and_what_to_do(tmp_path, content, says):
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"tasks\.jsonl must be text, plain or gzipped, got ") as caught:
        load_tasks(path)
    assert says in str(caught.value)


def test_a_folder_names_a_file_in_it(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "test.jsonl").write_text("")
    with pytest.raises(FormatError, match=r"is a folder; give one file, such as test\.jsonl"):
        load_tasks(tmp_path)


@pytest.mark.parametrize("pack", [lambda text: text, gzip.compress])
def test_a_pipe_is_read(tmp_path, pack):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    content = pack((json.dumps(HUMANEVAL) + "\n").encode())
    writer = threading.Thread(target=path.write_bytes, args=(content,))
    writer.start()
    assert [task.task_id for task in load_tasks(path)] == ["HumanEval/0"]
    writer.join()


def test_one_object_over_many_lines_is_one_row(file):
    assert len(load_tasks(file(json.dumps(NATIVE, indent=2)))) == 1
    with pytest.raises(FormatError, match=r"line 1: each line must be JSON"):
        load_tasks(file(json.dumps(NATIVE, indent=2), json.dumps(NATIVE)))
    with pytest.raises(FormatError, match=r"line 2: each line must be JSON"):
        load_tasks(file(NATIVE, json.dumps(NATIVE, indent=2)))


def test_an_array_after_blank_lines_keeps_its_line_numbers(file):
    assert len(load_tasks(file("", " ", json.dumps([NATIVE])))) == 1
    with pytest.raises(FormatError, match=r"line 3: each row must be an object"):
        load_tasks(file("", " ", json.dumps([NATIVE, 3])))
