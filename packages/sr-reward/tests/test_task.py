"""A task that exists can be graded: every rule of its making."""

import dataclasses

import pytest

from sr_reward import AssertTests, CallCase, CallTests, StdioCase, StdioTests, Task, TaskError

ONE = CallTests(cases=(CallCase(args=(1,), expected=2),))


def test_a_task_is_frozen_and_keyword_only():
    task = Task(task_id="t", prompt="def f(x):\n", entry_point="f", tests=ONE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.prompt = ""
    with pytest.raises(TypeError):
        CallCase((1,), {}, 2)


@pytest.mark.parametrize("value", [object(), [object()], {1: print}, type("I", (int,), {})(3), range(3)])
def test_cases_hold_plain_values_only(value):
    with pytest.raises(TaskError, match="plain values"):
        CallCase(args=(), expected=value)


def test_a_cyclic_value_is_not_plain():
    cycle: list = []
    cycle.append(cycle)
    with pytest.raises(TaskError, match="plain values"):
        CallCase(args=(cycle,), expected=1)


@pytest.mark.parametrize("make", [CallTests, StdioTests])
def test_a_task_without_a_case_is_refused(make):
    with pytest.raises(TaskError, match="non-empty tuple"):
        make(cases=())


@pytest.mark.parametrize("tolerance", [-1.0, float("nan"), float("inf")])
def test_a_tolerance_is_a_finite_distance(tolerance):
    with pytest.raises(TaskError, match="float_tolerance"):
        CallTests(cases=ONE.cases, float_tolerance=tolerance)


@pytest.mark.parametrize("name", ["", "1f", "f g", "a.b.c", None])
def test_an_entry_point_is_a_name(name):
    with pytest.raises(TaskError, match="entry_point"):
        Task(task_id="t", prompt="", entry_point=name, tests=ONE)


def test_stdio_tasks_need_no_entry_point():
    tests = StdioTests(cases=(StdioCase(stdin="", stdout="1\n"),))
    assert Task(task_id="t", prompt="", entry_point="", tests=tests).tests is tests


def test_empty_test_code_is_refused():
    with pytest.raises(TaskError, match="needs code"):
        AssertTests(code=" \n")


def test_the_encoded_inputs_hold_no_expected_value():
    tests = CallTests(cases=(CallCase(args=("in",), expected="a-secret", accepted=("b-secret",)),))
    assert b"in" in tests.encoded_inputs()
    assert b"secret" not in tests.encoded_inputs()


@pytest.mark.parametrize(
    "make",
    [
        lambda: AssertTests(code="assert f(1 == 2\n"),
        lambda: CallTests(cases=ONE.cases, checker="def check(:\n"),
        lambda: CallTests(cases=ONE.cases, checker="def verify(args, kwargs, output, expected): return True\n"),
        lambda: StdioTests(cases=(StdioCase(stdin="", stdout=""),), checker="checked = 1\n"),
    ],
)
def test_tests_that_cannot_be_run_make_no_task(make):
    with pytest.raises(TaskError, match=r"compiles|check"):
        make()
