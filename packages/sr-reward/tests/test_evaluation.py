"""Evaluations of a model: their files, going on after an interruption, and the choice of tasks by pass rate."""

import json
from dataclasses import dataclass, field

import pytest

from sr_reward import CodeGrader, FormatError, TaskError, load_samples, load_tasks
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
    drawn: list = field(default_factory=list)

    def about(self, tasks):
        return {"policy": "p", "weights": "w", "samples": self.samples}

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
    assert counts_in(tmp_path / "samples.raw.jsonl", "w")["a2"] == (4, 1)


def test_another_evaluation_or_another_file_in_the_place_is_refused(tmp_path, grader, tasks):
    evaluate(Scripted(PASSING), tasks, grader, out=tmp_path / "s.jsonl", limit=1)
    with pytest.raises(FormatError, match="other samples"):
        evaluate(Scripted(PASSING, samples=2), tasks, grader, out=tmp_path / "s.jsonl")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "s.jsonl").write_text("{}\n")
    with pytest.raises(FormatError, match="exists"):
        evaluate(Scripted(PASSING), tasks, grader, out=tmp_path / "x" / "s.jsonl")
    with pytest.raises(FormatError, match="another policy"):
        counts_in(tmp_path / "s.raw.jsonl", "v")


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
    pooled = select_tasks(rows_of(str(path)), sampler, grader, Bounds(high=0.2), out=None, pool=[out])
    assert "0 of 4 tasks chosen" in "\n".join(pooled)


def test_little_support_is_said():
    few = {str(i): (8, 0) for i in range(20)} | {"one": (8, 1)}
    assert "warm-start" in "\n".join(selection_lines(few, ["one"], []))
    assert "allows a pass rate of 31%" in "\n".join(selection_lines(few, ["one"], []))
    assert "warm-start" not in "\n".join(selection_lines({str(i): (8, 1) for i in range(20)}, [], []))


def test_a_testbed_task_is_the_same_after_it_was_written():
    for task in load_testbed().train[:300:25]:
        assert native(json.loads(json.dumps(native_row(task)))) == task
