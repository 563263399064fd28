"""The laws of the testbed: enough tasks, disjoint splits, references that pass their own tests and no others."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from sr_reward.task import CallTests, Task
from sr_reward.testbed import Testbed, load_testbed
from sr_reward.testbed.families import OUT_OF_DISTRIBUTION, TRAINED
from sr_reward.testbed.meaning import FAILURES, build_banks, choose_inputs, freeze, function_of, outputs_of
from sr_reward.testbed.mistakes import passes, slip

BANKS = build_banks()


@pytest.fixture(scope="module")
def testbed() -> Testbed:
    return load_testbed()


def every_task(testbed: Testbed) -> tuple[Task, ...]:
    return testbed.train + testbed.heldout + testbed.audit + testbed.ood


def calls(task: Task) -> CallTests:
    assert isinstance(task.tests, CallTests)
    return task.tests


def meaning_on_bank(testbed: Testbed, task: Task) -> tuple[str, Any]:
    program = testbed.programs[task.task_id]
    return program.family.bank, freeze(outputs_of(program, BANKS[program.family.bank]))


def test_there_are_enough_tasks_in_enough_families(testbed: Testbed) -> None:
    assert len(testbed.train) >= 1400
    assert len(testbed.heldout) >= 150
    assert len(testbed.audit) >= 200
    assert len(testbed.ood) >= 100
    assert len(every_task(testbed)) >= 2000
    assert len({task.family for task in testbed.train}) >= 8


def test_every_trained_family_and_tier_is_in_every_split(testbed: Testbed) -> None:
    for tasks in (testbed.train, testbed.heldout, testbed.audit):
        assert {task.family for task in tasks} == {family.name for family in TRAINED}
        assert min(Counter(task.tier for task in tasks).values()) >= len(tasks) // 20
    assert {task.tier for task in every_task(testbed)} == {"easy", "medium", "hard"}


def test_families_out_of_distribution_are_in_no_other_split(testbed: Testbed) -> None:
    assert {task.family for task in testbed.ood} == {family.name for family in OUT_OF_DISTRIBUTION}
    inside = {task.family for task in testbed.train + testbed.heldout + testbed.audit}
    assert inside.isdisjoint(task.family for task in testbed.ood)


def test_no_two_tasks_share_an_id_or_a_meaning(testbed: Testbed) -> None:
    tasks = every_task(testbed)
    assert len({task.task_id for task in tasks}) == len(tasks)
    assert len({meaning_on_bank(testbed, task) for task in tasks}) == len(tasks)


def test_no_prompt_is_in_two_splits_in_any_wording(testbed: Testbed) -> None:
    owner: dict[str, str] = {}
    for task in every_task(testbed):
        assert task.prompt in testbed.prompts(task)
        for prompt in testbed.prompts(task):
            assert owner.setdefault(prompt, task.task_id) == task.task_id


def test_the_seed_alone_decides_and_hash_randomization_does_not() -> None:
    script = "from sr_reward.testbed import load_testbed as l; import hashlib; t = l(3); "
    script += "print(hashlib.sha256(repr((t.train, t.heldout, t.audit, t.ood)).encode()).hexdigest())"
    digests = [
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    ]
    assert digests[0] == digests[1]


def test_another_seed_gives_other_tasks_but_moves_no_meaning_between_splits(testbed: Testbed) -> None:
    other = load_testbed(1)
    assert {task.prompt for task in other.train} != {task.prompt for task in testbed.train}
    trained = {meaning_on_bank(testbed, task) for task in testbed.train}
    assert trained.isdisjoint(meaning_on_bank(other, task) for task in (*other.heldout, *other.audit))


def test_every_task_has_at_least_eight_tests_with_different_answers(testbed: Testbed) -> None:
    for task in every_task(testbed):
        assert len(calls(task).cases) >= 8
        assert len({repr(case.args) for case in calls(task).cases}) == len(calls(task).cases)
        assert len({repr(case.expected) for case in calls(task).cases}) >= 2


def test_every_predicate_is_tested_with_at_least_two_of_each_answer(testbed: Testbed) -> None:
    for task in every_task(testbed):
        if task.family == "predicates":
            answers = Counter(case.expected for case in calls(task).cases)
            assert min(answers[True], answers[False]) >= 2, task


def test_tests_hold_edge_cases(testbed: Testbed) -> None:
    empty = ((), 0, "", [], {})
    with_edge = sum(any(case.args[0] in empty for case in calls(task).cases) for task in every_task(testbed))
    assert with_edge == len(every_task(testbed))


def test_the_reference_and_all_solutions_pass_exactly(testbed: Testbed) -> None:
    for task in every_task(testbed):
        assert task.reference == task.prompt + testbed.solutions(task)[0]
        for body in testbed.solutions(task):
            function = function_of(testbed.programs[task.task_id], body)
            for case in calls(task).cases:
                output = function(*case.args)
                assert output == case.expected
                assert type(output) is type(case.expected)


def test_wrong_solutions_fail_and_vary(testbed: Testbed) -> None:
    rng = random.Random(0)
    for task in testbed.train[::20]:
        wrong = testbed.wrong_solutions(task, rng, 12)
        assert len(wrong) == 12
        assert len(set(wrong)) >= 6
        assert not any(passes(testbed.programs[task.task_id], body, task) for body in wrong)


def test_wrong_solutions_are_mostly_python_and_sometimes_not(testbed: Testbed) -> None:
    rng = random.Random(0)
    wrong = [(task, testbed.wrong_solutions(task, rng)[0]) for task in testbed.train]
    broken = sum(not compiles(task.prompt + body) for task, body in wrong)
    assert 0.01 * len(wrong) < broken < 0.2 * len(wrong)


def compiles(source: str) -> bool:
    try:
        compile(source, "wrong", "exec")
    except SyntaxError:
        return False
    return True


@pytest.mark.nightly  # runs thousands of programs
def test_no_reference_passes_the_tests_of_a_task_with_another_meaning(testbed: Testbed) -> None:
    """All ordered pairs, across families, compared as loosely as any grader might (1 == True, list == tuple)."""
    tasks = every_task(testbed)
    functions = [function_of(testbed.programs[t.task_id], testbed.solutions(t)[0]) for t in tasks]
    for i, task in enumerate(tasks):
        cases = [(case.args, freeze(case.expected)) for case in reversed(calls(task).cases)]
        for j in range(len(tasks)):
            if i != j:
                assert not passes_loosely(functions[j], cases), (task.task_id, tasks[j].task_id)


def passes_loosely(function: Callable[..., Any], cases: list[tuple[Any, Any]]) -> bool:
    try:
        return all(freeze(function(*arguments)) == expected for arguments, expected in cases)
    except FAILURES:
        return False


def test_inputs_are_chosen_to_tell_meanings_apart() -> None:
    meanings = [(0, 0, 0, 0), (0, 0, 0, 1), (0, 1, 0, 0)]
    chosen = choose_inputs(meanings, 1)
    assert {1, 3} <= set(chosen[0])
    assert 3 in chosen[1]
    assert 1 in chosen[2]
    assert 0 in chosen[0]  # the edge case stays, though it tells nothing apart


@pytest.mark.parametrize("slips", [(1.0,), (0.0, 1.0), (0.2, 0.3, 0.5)])
def test_a_slip_changes_as_many_slots_as_it_is_told(testbed: Testbed, slips: tuple[float, ...]) -> None:
    rng = random.Random(0)
    changed = set()
    for task in testbed.train[:300]:
        program = testbed.programs[task.task_id]
        slipped = slip(program, rng, slips)
        assert program.family.allows(slipped.choice)
        changed.add(sum(a != b for a, b in zip(program.choice, slipped.choice, strict=True)))
    assert changed == set(range(1, len(slips) + 1))
