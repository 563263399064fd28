"""Time per test, memory that is touched and not reserved, large outputs, and the streams that scripts know by path."""

import pytest

from sr_reward import AssertTests, CallCase, CallTests, CodeGrader, StdioCase, StdioTests, Task, TaskError
from sr_reward.rules import RULES

SPIN = "import time\ndef spin(s):\n    end = time.process_time() + s\n    while time.process_time() < end: pass\n"


def calls(count, **fields):
    cases = tuple(CallCase(args=(number,), expected=number) for number in range(count))
    return Task(task_id="c", prompt="", entry_point="f", tests=CallTests(cases=cases), **fields)


def script(*cases, **fields):
    tests = StdioTests(cases=tuple(StdioCase(stdin=given, stdout=answer) for given, answer in cases))
    return Task(task_id="s", prompt="p", entry_point="", tests=tests, prompt_is_code=False, **fields)


@pytest.fixture(scope="module")
def grader():
    with CodeGrader(workers=1, timeout_s=0.5) as made:
        yield made


def outcome(grader, task, source):
    (grade,) = grader.grade([task], [source], solutions=True)
    return grade.outcome


def test_the_time_of_calls_is_each_calls_own(grader):
    assert outcome(grader, calls(8), f"{SPIN}def f(x):\n    spin(0.15)\n    return x\n") == "passed"
    assert outcome(grader, calls(8), f"{SPIN}def f(x):\n    spin(0.0 if x < 7 else 2.0)\n    return x\n") == "timeout"


def test_a_program_that_undoes_the_limit_per_call_meets_that_of_all(grader):
    undo = "import signal\ndef f(x):\n    signal.setitimer(signal.ITIMER_PROF, 0)\n    while True: pass\n"
    (grade,) = grader.grade([calls(2)], [undo], solutions=True)
    assert grade.outcome == "timeout"
    assert grade.seconds < 2.5


def test_the_time_of_scripts_is_each_runs_own(grader):
    task = script(*[("1", "1")] * 4)
    assert outcome(grader, task, f"{SPIN}spin(0.2)\nprint(input())\n") == "passed"


def test_a_format_has_its_own_time_where_none_is_given():
    source = f"{SPIN}spin(0.4)\nprint(input())\n"
    with CodeGrader(workers=1) as own:
        assert outcome(own, script(("1", "1"), format="livecodebench"), source) == "passed"
    assert RULES["livecodebench"].time_s == 6.0
    with CodeGrader(workers=1, timeout_s=0.2) as short:
        assert outcome(short, script(("1", "1"), format="livecodebench"), source) == "timeout"


def test_stacks_of_threads_are_reserved_and_not_used(grader):
    source = (
        "import threading, sys\nthreading.stack_size(512 << 20)\nsys.setrecursionlimit(10 ** 6)\n"
        "def main():\n    print(int(input()) + 1)\nt = threading.Thread(target=main)\nt.start()\nt.join()\n"
    )
    assert outcome(grader, script(("41", "42")), source) == "passed"


@pytest.mark.parametrize("source", ["x = bytearray(700 << 20)\n", "x = []\nwhile True: x.append(bytes(1 << 20))\n"])
def test_what_is_touched_is_limited(source):
    with CodeGrader(workers=1, timeout_s=5.0, memory_mb=256) as small:
        assert outcome(small, script(("1", "")), source) == "memory"


def test_large_outputs_are_read_and_larger_ones_named(grader):
    size = 11_000_000
    task = Task(
        task_id="l",
        prompt="",
        entry_point="f",
        tests=CallTests(cases=(CallCase(args=(size,), expected="x" * size),)),
    )
    assert outcome(grader, task, "def f(n):\n    return 'x' * n\n") == "passed"
    (grade,) = grader.grade([script(("", "x"))], ["import sys\nsys.stdout.write('x' * (17 << 20))\n"], solutions=True)
    assert grade.outcome == "failed"
    assert "output_mb" in grade.detail
    with pytest.raises(TaskError, match="output_mb"):
        CodeGrader(output_mb=0)


def test_large_inputs_are_given(grader):
    text = "1 " * (9 << 20)
    assert outcome(grader, script((text, "0")), "import sys\nprint(len(sys.stdin.read()) - (18 << 20))\n") == "passed"


@pytest.mark.parametrize(
    "source",
    [
        "print(int(open('/dev/stdin').read()) + 1)",
        "print(int(open('/dev/fd/0').read()) + 1)",
        "print(int(open('/proc/self/fd/0').readline()) + 1)",
        "import io\nprint(int(io.open('/dev/stdin', 'rb').read()) + 1)",
        "import os\nprint(int(os.read(os.open('/dev/stdin', os.O_RDONLY), 99)) + 1)",
        "import pathlib\nprint(int(pathlib.Path('/dev/stdin').read_text()) + 1)",
        "import fileinput\nprint(int(next(fileinput.input('/dev/stdin'))) + 1)",
        "open('/dev/stdout', 'w').write(str(int(input()) + 1))",
        "import sys\nsys.stdout = open('/dev/stdout', 'w')\nprint(int(input()) + 1)",
        "import sys\nsys.stderr = open('/dev/stderr', 'w')\nprint(int(input()) + 1)",
        "class A:\n    open = open\nA().open('/dev/null').close()\nprint(int(input()) + 1)",
        "import locale\nlocale.setlocale(locale.LC_ALL, '')\nprint(int(input()) + 1)",
        "import os\nos.path.dirname(__file__)\nprint(int(input()) + 1)",
        "\ufeffprint(int(input()) + 1)",
    ],
)
def test_the_streams_and_the_locale_are_there(grader, source):
    assert outcome(grader, script(("41\n", "42\n")), source + "\n") == "passed"


def test_all_asserts_share_one_time(grader):
    task = Task(task_id="a", prompt="", entry_point="f", tests=AssertTests(code="assert f(0.3) is None\n" * 3))
    assert outcome(grader, task, f"{SPIN}def f(s):\n    spin(s)\n") == "timeout"
