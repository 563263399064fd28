"""Evaluations of a model: their files, going on after an interruption, and the choice of tasks by pass rate."""

import ast
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sr_reward import CodeGrader, FormatError, TaskError, load_samples, load_tasks
from sr_reward.canonical import canonical
from sr_reward.formats.native import native, native_row
from sr_reward.grading.evaluation import counts_in, evaluate, summary_lines, summary_of
from sr_reward.grading.selection import Bounds, rows_of, select, select_tasks, selection_lines
from sr_reward.testbed import load_testbed

RIGHT, WRONG = "    return 2 * x\n", "    return x\n"


def row(name, **more):
    tests = {"kind": "calls", "cases": [{"args": [3], "expected": 6}]}
    reference = f"def f(x):\n{RIGHT}"
    return {
        "task_id": name,
        "prompt": "def f(x):\n",
        "entry_point": "f",
        "tests": tests,
        "reference": reference,
        **more,
    }


def plain_values():
    """Values that a Python literal can write."""
    hashable = st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.binary(max_size=3) | st.floats(-9, 9),
        lambda inner: st.tuples(inner) | st.lists(inner, max_size=3).map(tuple),
        max_leaves=4,
    )
    plain = hashable | st.sets(hashable, min_size=1, max_size=4)
    return st.recursive(
        plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(hashable, inner, max_size=3), max_leaves=6
    )


@dataclass(frozen=True)
class Given:
    task: object
    texts: list
    tokens: list
    truncated: list


@dataclass
class Scripted:
    """Answers ``passing[task]`` of ``samples`` times right; stops after ``until`` tasks, as an interruption would."""

    passing: dict
    samples: int = 4
    until: int = 100
    chat: bool = False
    seed: int = 0
    drawn: list = field(default_factory=list)

    def about(self, tasks):
        return {"policy": "p", "weights": "w", "samples": self.samples, "seed": self.seed}

    def complete(self, tasks):
        for number, task in enumerate(tasks):
            if number == self.until:
                raise KeyboardInterrupt
            self.drawn.append(task.task_id)
            texts = [RIGHT if i < self.passing[task.task_id] else WRONG for i in range(self.samples)]
            if self.chat:
                texts = [f"Sure:\n```python\ndef f(x):\n{text}```\nDone." for text in texts]
            yield Given(task, texts, [3] * self.samples, [False] * self.samples)


@pytest.fixture(scope="module")
def grader():
    with CodeGrader(workers=1) as made:
        yield made


@pytest.fixture
def tasks(tmp_path):
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(json.dumps(row(name, tier=name[0])) + "\n" for name in ("a1", "a2", "b1")))
    return load_tasks(path)


PASSING = {"a1": 4, "a2": 1, "b1": 0}


@pytest.mark.parametrize("chat", [False, True])
def test_samples_can_be_graded_again_and_raw_texts_stand_beside(tmp_path, grader, tasks, chat):
    files = evaluate(Scripted(PASSING, chat=chat), tasks, grader, out=tmp_path / "e" / "s.jsonl")
    made = summary_of(tasks, files, "1,4")
    assert (made["tasks"], made["of_tasks"], made["samples"]) == (3, 3, 12)
    assert made["pass@1"] == made["avg@4"] == pytest.approx(5 / 12)
    assert made["pass@4"] == pytest.approx(2 / 3)
    assert made["intervals"]["avg@4"][0] < 5 / 12 < made["intervals"]["avg@4"][1]
    assert made["by"]["tier"]["a"]["pass@1"] == pytest.approx(5 / 8)
    assert made["by"]["tier"]["b"]["outcomes"]["failed"] == 4
    assert "tier a" in "\n".join(summary_lines(made))
    again = load_samples(tmp_path / "e" / "s.jsonl", {task.task_id: task for task in tasks})
    assert [sample.solution for sample in again] == [chat] * 12
    by_name = {task.task_id: task for task in tasks}
    grades = grader.grade([by_name[s.task_id] for s in again], [s.text for s in again], solutions=chat)
    assert sum(grade.outcome == "passed" for grade in grades) == 5
    raw = [json.loads(line) for line in (tmp_path / "e" / "s.raw.jsonl").read_text().splitlines()]
    assert [r["outcome"] for r in raw[4:8]] == ["passed", "failed", "failed", "failed"]
    assert all(("Sure" in r["text"]) == chat for r in raw)
    assert json.loads((tmp_path / "e" / "metadata.json").read_text())["weights"] == "w"


def test_an_interrupted_evaluation_goes_on_after_its_last_whole_task(tmp_path, grader, tasks):
    with pytest.raises(KeyboardInterrupt):
        evaluate(Scripted(PASSING, until=2), tasks, grader, out=tmp_path / "s.jsonl")
    for name in ("s.jsonl", "s.raw.jsonl"):  # a kill in the middle of a task's rows
        text = (tmp_path / name).read_text()
        (tmp_path / name).write_text(text[: text.rindex("\n", 0, -20) + 9])
    sampler = Scripted(PASSING)
    files = evaluate(sampler, tasks, grader, out=tmp_path / "s.jsonl")
    assert sampler.drawn == ["a2", "b1"]
    assert files.counts() == {"a1": (4, 4), "a2": (4, 1), "b1": (4, 0)}
    assert len((tmp_path / "s.jsonl").read_text().splitlines()) == 12


def test_a_part_is_said_and_can_be_completed(tmp_path, grader, tasks):
    files = evaluate(Scripted(PASSING), tasks, grader, out=tmp_path, limit=2)
    assert "2 of 3 tasks" in next(iter(summary_lines(summary_of(tasks, files, None))))
    sampler = Scripted(PASSING)
    evaluate(sampler, tasks, grader, out=tmp_path)
    assert sampler.drawn == ["b1"]
    assert (tmp_path / "samples.jsonl").exists()


def test_samples_that_were_only_drawn_are_graded_later(tmp_path, grader, tasks):
    files = evaluate(Scripted(PASSING), tasks, grader, out=tmp_path, judge=False)
    assert summary_of(tasks, files, None)["outcomes"] == {}
    sampler = Scripted(PASSING)
    assert evaluate(sampler, tasks, grader, out=tmp_path).counts()["a2"] == (4, 1)
    assert sampler.drawn == []
    assert counts_in(tmp_path / "samples.raw.jsonl", {"weights": "w", "seed": 1})["a2"] == (4, 1)


def test_the_score_of_a_part_is_of_that_part_whatever_else_was_drawn(tmp_path, grader, tasks):
    evaluate(Scripted(PASSING), tasks, grader, out=tmp_path, judge=False)
    files = evaluate(Scripted(PASSING), tasks, grader, out=tmp_path, limit=2)
    made = summary_of(tasks, files, None, 2)
    assert (made["tasks"], made["of_tasks"], made["pass@1"]) == (2, 3, pytest.approx(5 / 8))
    evaluate(Scripted(PASSING), tasks, grader, out=tmp_path)
    assert summary_of(tasks, evaluate(Scripted(PASSING), tasks, grader, out=tmp_path), None, 1)["pass@1"] == 1.0


def test_verdicts_survive_an_interruption_and_progress_is_told(tmp_path, grader, tasks):
    evaluate(Scripted(PASSING), tasks, grader, out=tmp_path, judge=False)
    told = []

    def interrupt(total):
        told.append(total)
        if len(told) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(Scripted(PASSING), tasks, grader, out=tmp_path, on_task=interrupt)
    assert told == [3, 3]
    raw = [json.loads(line) for line in (tmp_path / "samples.raw.jsonl").read_text().splitlines()]
    assert [r["outcome"] is None for r in raw] == [False] * 8 + [True] * 4


def test_another_evaluation_or_another_file_in_the_place_is_refused(tmp_path, grader, tasks):
    evaluate(Scripted(PASSING), tasks, grader, out=tmp_path / "s.jsonl", limit=1)
    with pytest.raises(FormatError, match="other samples"):
        evaluate(Scripted(PASSING, samples=2), tasks, grader, out=tmp_path / "s.jsonl")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "s.jsonl").write_text("{}\n")
    with pytest.raises(FormatError, match="exists"):
        evaluate(Scripted(PASSING), tasks, grader, out=tmp_path / "x" / "s.jsonl")
    with pytest.raises(FormatError, match="other weights"):
        counts_in(tmp_path / "s.raw.jsonl", {"weights": "v"})


def test_a_file_of_ones_own_beside_an_evaluation_is_left_alone(tmp_path, grader, tasks):
    evaluate(Scripted(PASSING), tasks, grader, out=tmp_path / "s.jsonl", limit=1)
    (tmp_path / "mine.jsonl").write_text("{}\n")
    with pytest.raises(FormatError, match="exists and is no evaluation"):
        evaluate(Scripted(PASSING), tasks, grader, out=tmp_path / "mine.jsonl")
    assert (tmp_path / "mine.jsonl").read_text() == "{}\n"
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "metadata.json").write_text('{"mine": 1}')
    with pytest.raises(FormatError, match="no evaluation's"):
        evaluate(Scripted(PASSING), tasks, grader, out=tmp_path / "model")
    assert (tmp_path / "model" / "metadata.json").read_text() == '{"mine": 1}'


@pytest.mark.parametrize("lost", ["s.jsonl", "s.raw.jsonl"])
def test_half_of_an_evaluation_is_refused(tmp_path, grader, tasks, lost):
    evaluate(Scripted(PASSING), tasks, grader, out=tmp_path / "s.jsonl")
    (tmp_path / lost).unlink()
    before = {path.name: path.read_text() for path in tmp_path.glob("s.*")}
    with pytest.raises(FormatError, match="put back"):
        evaluate(Scripted(PASSING), tasks, grader, out=tmp_path / "s.jsonl")
    assert {path.name: path.read_text() for path in tmp_path.glob("s.*")} == before


def test_an_evaluation_that_drew_nothing_binds_nobody(tmp_path, grader, tasks):
    with pytest.raises(KeyboardInterrupt):
        evaluate(Scripted(PASSING, until=0), tasks, grader, out=tmp_path)
    evaluate(Scripted(PASSING, samples=2), tasks, grader, out=tmp_path)
    assert json.loads((tmp_path / "metadata.json").read_text())["samples"] == 2


def test_a_name_with_dots_is_a_folder_unless_it_ends_in_jsonl(tmp_path, grader, tasks):
    evaluate(Scripted(PASSING), tasks, grader, out=tmp_path / "smollm2-1.7b")
    assert (tmp_path / "smollm2-1.7b" / "samples.jsonl").is_file()
    evaluate(Scripted(PASSING), tasks, grader, out=tmp_path / "a" / "v1.2.jsonl")
    assert (tmp_path / "a" / "v1.2.raw.jsonl").is_file()


def test_a_set_changes_no_digest_from_one_process_to_the_next():
    code = (
        "from sr_reward import CallCase, CallTests, Task\n"
        "from sr_reward.grading.evaluation import tasks_digest\n"
        "words = {f'word {i}' for i in range(40)}\n"
        "tests = CallTests(cases=(CallCase(args=({frozenset(words)},), expected={'k': words}),))\n"
        "print(tasks_digest([Task(task_id='t', prompt='p', entry_point='f', tests=tests)]), list(words))\n"
    )
    said = [
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, stdout=-1, text=True)
        for seed in ("1", "2")
    ]
    (one, order), (two, other) = [done.stdout.split(" ", 1) for done in said]
    assert one == two
    assert order != other


@given(plain_values())
def test_canonical_text_is_a_literal_of_the_value(value):
    assert ast.literal_eval(canonical(value)) == value


def test_the_canonical_text_of_a_task_without_sets_is_its_repr(tasks):
    assert [canonical(task) for task in tasks] == [repr(task) for task in tasks]


def test_bounds_that_are_given_are_inclusive_and_the_others_leave_out_0_and_1():
    counts = {"none": (8, 0), "some": (8, 2), "most": (8, 6), "all": (8, 8), "unjudged": (0, 0)}
    assert select(counts, Bounds()) == ["some", "most"]
    assert select(counts, Bounds(low=0.0)) == ["none", "some", "most"]
    assert select(counts, Bounds(low=0.25, high=0.75)) == ["some", "most"]
    assert select(counts, Bounds(high=1.0), ["some"]) == ["most", "all"]
    with pytest.raises(TaskError, match="low <= high"):
        Bounds(low=0.8, high=0.2)


def test_selected_tasks_are_tasks_with_their_pass_rates(tmp_path, grader):
    path = tmp_path / "tasks.jsonl"
    rows = [row("a1"), row("a2"), row("b1"), row("b2", reference=f"def f(x):\n{WRONG}")]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    out, sampler = tmp_path / "some.jsonl", Scripted({**PASSING, "b2": 2})
    said = "\n".join(select_tasks(rows_of(str(path)), sampler, grader, Bounds(), out=out))
    assert "1 of 4 tasks chosen" in said
    assert "b2" in said  # its own reference fails
    assert "0 of 4 passed still allows a pass rate of 53%" in said
    (kept,) = [json.loads(line) for line in out.read_text().splitlines()]
    assert (kept["task_id"], kept["pass_rate"], kept["n"], kept["n_passed"]) == ("a2", 0.25, 4, 1)
    assert kept["weights"] == "w"
    assert load_tasks(out) == [task for task, _ in rows_of(str(path)).values() if task.task_id == "a2"]
    with pytest.raises(FormatError, match="exists"):
        select_tasks(rows_of(str(path)), sampler, grader, Bounds(), out=out)
    other = Scripted({**PASSING, "b2": 2}, seed=1)
    pooled = select_tasks(rows_of(str(path)), other, grader, Bounds(high=0.2), out=None, pool=[out])
    assert "0 of 4 tasks chosen" in "\n".join(pooled)
    assert "4 samples of 1 tasks" in "\n".join(pooled)
    drawn = len(sampler.drawn)
    for pool, rule in (([out], "the same draws again"), ([tmp_path / "none.jsonl"], "cannot be read")):
        with pytest.raises(FormatError, match=rule):
            select_tasks(rows_of(str(path)), sampler, grader, Bounds(), out=None, pool=pool)
    assert len(sampler.drawn) == drawn  # before anything was drawn


def test_two_selections_of_dotted_names_stand_side_by_side(tmp_path, grader):
    path = tmp_path / "tasks.jsonl"
    path.write_text(json.dumps(row("a2")) + "\n")
    for seed, name in enumerate(("tasks.one.jsonl", "tasks.two.jsonl")):
        select_tasks(rows_of(str(path)), Scripted(PASSING, seed=seed), grader, Bounds(), out=tmp_path / name)
    assert (tmp_path / "tasks.one-samples" / "samples.raw.jsonl").is_file()
    assert (tmp_path / "tasks.two-samples" / "samples.raw.jsonl").is_file()


def test_nothing_within_bounds_leaves_the_place_free(tmp_path, grader):
    path, out = tmp_path / "tasks.jsonl", tmp_path / "out.jsonl"
    path.write_text(json.dumps(row("a2")) + "\n")
    said = select_tasks(rows_of(str(path)), Scripted(PASSING), grader, Bounds(low=0.9), out=out)
    assert "no file is written" in "\n".join(said)
    select_tasks(rows_of(str(path)), Scripted(PASSING), grader, Bounds(), out=out)
    assert len(load_tasks(out)) == 1


def test_tasks_without_a_name_keep_theirs_in_a_selection(tmp_path, grader):
    """Published rows without one are called by their place in the file, which a selection changes."""
    call = {"fn_name": "f", "inputs": [[3]], "outputs": [6]}
    rows = [{"question": f"Double {i}.", "input_output": json.dumps(call), "difficulty": "easy"} for i in range(3)]
    path, out = tmp_path / "apps.jsonl", tmp_path / "some.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    passing, found = {"apps/0": 0, "apps/1": 2, "apps/2": 3}, rows_of(str(path))
    assert [task.tier for task, _ in found.values()] == ["easy"] * 3
    select_tasks(found, Scripted(passing, chat=True), grader, Bounds(), out=out)
    assert [task.task_id for task in load_tasks(out)] == ["apps/1", "apps/2"]
    pooled = select_tasks(found, Scripted(passing, chat=True, seed=1), grader, Bounds(), out=None, pool=[out])
    assert "8 samples of 2 tasks" in pooled[0]


def test_little_support_is_said():
    few = {str(i): (8, 0) for i in range(20)} | {"one": (8, 1)}
    assert "warm-start" in "\n".join(selection_lines(few, ["one"], []))
    assert "allows a pass rate of 31%" in "\n".join(selection_lines(few, ["one"], []))
    assert "warm-start" not in "\n".join(selection_lines({str(i): (8, 1) for i in range(20)}, [], []))


def test_a_testbed_task_is_the_same_after_it_was_written():
    for task in load_testbed().train[:300:25]:
        assert native(json.loads(json.dumps(native_row(task)))) == task
