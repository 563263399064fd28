"""One core for a zygote and its programs, all of them for whoever needs them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sr_reward import CallCase, CallTests, CodeGrader, Task
from sr_reward.sandbox.child import cores

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes do not choose their core here"),
    pytest.mark.skipif(len(getattr(os, "sched_getaffinity", lambda _: [0])(0)) < 2, reason="there is one core only"),
]

COUNT = "import os\ndef f():\n    return len(os.sched_getaffinity(0))\n"
UNTIL_MANY = """
import os, time
def f():
    while len(os.sched_getaffinity(0)) == 1 and time.process_time() < 2:
        pass
    return len(os.sched_getaffinity(0))
"""
TAKE_ALL = """
import os
def f():
    try:
        os.sched_setaffinity(0, range(64))
    except PermissionError:
        return len(os.sched_getaffinity(0))
"""


def grade(grader: CodeGrader, program: str, expected: int) -> str:
    tests = CallTests(cases=(CallCase(args=(), expected=expected),))
    task = Task(task_id="cores", prompt="", entry_point="f", tests=tests)
    (verdict,) = grader.grade([task], [program], solutions=True)
    return verdict.outcome


def test_a_program_runs_on_the_core_of_its_zygote_and_cannot_leave_it() -> None:
    for program in (COUNT, TAKE_ALL):
        with CodeGrader(workers=1) as grader:  # the first group of a zygote has not waited for its core
            assert grade(grader, program, 1) == "passed"


def test_a_slow_program_may_go_where_there_is_room() -> None:
    with CodeGrader(workers=1) as grader:
        assert grade(grader, UNTIL_MANY, len(os.sched_getaffinity(0))) == "passed"


def test_a_zygote_that_waits_for_work_may_run_anywhere() -> None:
    with CodeGrader(workers=1) as grader:
        grade(grader, COUNT, 1)
        worker = grader.sandbox._lanes[0].workers["warm"]
        outer = worker.process.pid
        inside = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
        zygote = int(inside[0]) if inside else outer
        deadline = time.monotonic() + 5
        while os.sched_getaffinity(zygote) != os.sched_getaffinity(0) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert os.sched_getaffinity(zygote) == os.sched_getaffinity(0)


def test_after_a_group_that_waited_the_kernel_places_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    bound: list[int] = []
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cores: bound.append(len(cores)))
    many = len(os.sched_getaffinity(0))
    core = cores.Core()
    core.begin()
    time.sleep(0.05)  # nobody used this core's time, so others had it
    core.end(0.0)
    assert bound == [1, many]
    core.begin()
    core.end(1.0)  # programs took all the time that went by
    assert bound == [1, many, many]
    core.begin()
    assert bound[3:] == [1]


def test_where_it_is_refused_nothing_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def refuse(pid: int, cores: object) -> None:
        tried.append(pid)
        raise PermissionError(1, "refused")

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    core = cores.Core()
    for _ in range(3):
        core.begin()
        core.let_go(0)
        core.end(0.1)
    assert tried == [0]
