"""The grader's promises: outcomes, order, laziness, separation, survival."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import sr_reward
from sr_reward import AssertTests, CallCase, CallTests, CodeGrader, StdioCase, StdioTests, Task, TaskError
from sr_reward.sandbox.check import check_isolation

PROMPT = 'def f(x, ys):\n    """Add one to x."""\n'


def calls(*pairs, **options):
    cases = tuple(CallCase(args=args, expected=expected) for args, expected in pairs)
    return Task(task_id="t", prompt=PROMPT, entry_point="f", tests=CallTests(cases=cases, **options))


ADD_ONE = calls(((1, []), 2), ((41, [0]), 42))


@pytest.fixture(scope="module")
def grader():
    with CodeGrader(workers=2, timeout_s=0.4, memory_mb=256) as made:
        yield made


@pytest.mark.parametrize(
    ("completion", "outcome"),
    [
        ("    return x + 1\n", "passed"),
        ("    return x + 2\n", "failed"),
        ("    return x + 1.0\n", "failed"),
        ("    return True if x else 0\n", "failed"),
        ("    raise ValueError(x)\n", "failed"),
        ("    return (\n", "failed"),
        ("    return lambda: 1\n", "failed"),
        ("    while True: pass\n", "timeout"),
        ("    import time\n    time.sleep(1000)\n", "timeout"),
        ("    return [0] * 10**9\n", "memory"),
        ("    import os\n    os._exit(0)\n", "crashed"),
        ("    raise SystemExit(0)\n", "crashed"),
        ("    import os, signal\n    os.kill(os.getpid(), signal.SIGSEGV)\n", "crashed"),
        ("    return 'x' * 10**7\n", "failed"),
        ("", "no_code"),
        (" \n\t\n", "no_code"),
    ],
)
def test_each_outcome(grader, completion, outcome):
    (grade,) = grader.grade([ADD_ONE], [completion])
    assert grade.outcome == outcome, grade
    assert grade.reward == (1.0 if outcome == "passed" else 0.0)


def test_grades_come_in_the_order_of_the_samples(grader):
    texts = [f"    return x + {1 if i % 3 else 2}  # {i}\n" for i in range(60)]
    outcomes = [grade.outcome for grade in grader.grade([ADD_ONE] * 60, texts)]
    assert outcomes == ["passed" if i % 3 else "failed" for i in range(60)]


def test_nothing_is_started_before_the_first_grade():
    made = CodeGrader(workers=1)
    assert made.grade([ADD_ONE], [""])[0].outcome == "no_code"
    assert not made.sandbox._lanes
    made.close()


def test_samples_and_tasks_go_in_pairs(grader):
    with pytest.raises(TaskError, match="in pairs"):
        grader.grade([ADD_ONE], [])


@pytest.mark.parametrize(
    "setting",
    [{"workers": 0}, {"timeout_s": 0}, {"timeout_s": float("nan")}, {"memory_mb": 1}, {"isolation": "none"}],
)
def test_settings_are_checked(setting):
    with pytest.raises(TaskError):
        CodeGrader(**setting)


def test_the_expected_values_are_not_in_the_program(grader):
    """Everything the program's process holds, its own memory included, lacks the expected value."""
    task = calls(((1, []), "an-expected-value-" + "q" * 8))
    search = (
        "    import gc\n"
        "    needle = '-'.join(['an', 'expected', 'value', 'q' * 8])\n"
        "    seen = [o for o in gc.get_objects() if needle in repr(o)[:100000]]\n"
        "    return needle if seen else 'not found'\n"
    )
    (grade,) = grader.grade([task], [search])
    assert grade.outcome == "failed"


def test_an_object_that_equals_everything_does_not_pass(grader):
    liar = "    class Yes:\n        __eq__ = lambda *a: True\n        __hash__ = None\n    return Yes()\n"
    (grade,) = grader.grade([ADD_ONE], [liar])
    assert grade.outcome == "failed"


def test_a_program_sees_nothing_of_the_one_before(grader):
    leave = "    import builtins, sys\n    builtins.left = sys.left = x\n    return x + 1\n"
    look = "    import builtins, sys\n    return 2 if hasattr(builtins, 'left') or hasattr(sys, 'left') else 0\n"
    task = calls(((1, []), 2))
    outcomes = [g.outcome for g in grader.grade([task] * 8, [leave, look + "#1", look + "#2", look] * 2)]
    assert outcomes == ["passed", "failed", "failed", "failed"] * 2


def test_equal_programs_of_a_batch_run_once_unless_told_otherwise():
    """Two equal programs give equal grades to the last digit only if one run was used for both."""
    task = calls(((1, []), 2))
    busy = "    for _ in range(20000): pass\n    return x + 1\n"
    with CodeGrader(workers=1) as once, CodeGrader(workers=1, deduplicate=False) as twice:
        assert len({grade.seconds for grade in once.grade([task] * 6, [busy] * 6)}) == 1
        assert len({grade.seconds for grade in twice.grade([task] * 6, [busy] * 6)}) > 1


def test_a_killed_worker_costs_nothing_but_time(grader):
    texts = [f"    return x + 1  # {i}\n" for i in range(300)]
    grader.grade([ADD_ONE], ["    return x\n"])
    victim = next(iter(grader.sandbox._lanes[0].workers.values())).process.pid
    threading.Timer(0.05, os.kill, (victim, signal.SIGKILL)).start()
    assert {grade.outcome for grade in grader.grade([ADD_ONE] * 300, texts)} == {"passed"}


def test_a_killed_zygote_takes_its_programs_along_and_the_batch_completes(grader):
    """The process inside the namespaces is killed, not the one that waits for it outside."""
    grader.grade([ADD_ONE], ["    return x\n"])
    outer = next(iter(grader.sandbox._lanes[0].workers.values())).process.pid
    children = Path(f"/proc/{outer}/task/{outer}/children").read_text().split()
    victim = int(children[0]) if children else outer  # below level full there is only one process
    threading.Timer(0.05, os.kill, (victim, signal.SIGKILL)).start()
    texts = [f"    return x + 1  # {i}\n" for i in range(300)]
    assert {grade.outcome for grade in grader.grade([ADD_ONE] * 300, texts)} == {"passed"}
    assert outer not in [each.process.pid for lane in grader.sandbox._lanes for each in lane.workers.values()]


@pytest.mark.parametrize("level", ["landlock", "limits"])
def test_a_killed_worker_at_a_weaker_level_is_replaced_and_leaves_no_program(level):
    if level == "landlock" and not any(f.name == "level landlock" and f.available for f in check_isolation()):
        pytest.skip("no Landlock here")
    with CodeGrader(workers=1, timeout_s=5.0, isolation=level) as made:
        made.grade([ADD_ONE], ["    return x\n"])
        victim = made.sandbox._lanes[0].workers["slim"].process.pid
        threading.Timer(0.1, os.kill, (victim, signal.SIGKILL)).start()
        texts = [f"    for _ in range(100000): pass\n    return x + 1  # {i}\n" for i in range(100)]
        assert {grade.outcome for grade in made.grade([ADD_ONE] * 100, texts)} == {"passed"}
        assert made.sandbox._lanes[0].workers["slim"].process.pid != victim


def test_a_program_that_kills_its_worker_at_level_limits_earns_no_reward():
    with CodeGrader(workers=1, timeout_s=1.0, isolation="limits") as made:
        grades = made.grade([ADD_ONE] * 2, ["    import os\n    os.kill(os.getppid(), 9)\n", "    return x + 1\n"])
        assert [grade.outcome for grade in grades] == ["infra_error", "passed"]
        assert grades[0].reward is None


def test_a_sandbox_that_keeps_failing_is_no_verdict(monkeypatch):
    """A grader whose workers die under every program says infra_error, whose reward is none."""
    from sr_reward.sandbox import worker

    with CodeGrader(workers=1) as made:
        made.grade([ADD_ONE], ["    return x\n"])

        def die(self):
            raise worker.WorkerDied("killed by the test")

        monkeypatch.setattr(worker.Worker, "receive", die)
        grades = made.grade([ADD_ONE] * 3, [f"    return x + 1  # {i}\n" for i in range(3)])
        assert [grade.outcome for grade in grades] == ["infra_error"] * 3
        assert [grade.reward for grade in grades] == [None] * 3
        monkeypatch.undo()
        assert made.grade([ADD_ONE], ["    return x + 1\n"])[0].outcome == "passed"


def test_leaving_in_the_middle_of_a_batch_leaves_nothing_behind(grader):
    stream = grader.stream([ADD_ONE] * 40, [f"    return x + 1  # {i}\n" for i in range(40)])
    next(stream)
    pids = [each.process.pid for lane in grader.sandbox._lanes for each in lane.workers.values()]
    stream.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert grader.grade([ADD_ONE], ["    return x + 1\n"])[0].outcome == "passed"


def test_an_error_between_two_results_does_not_lock_the_grader():
    with CodeGrader(workers=1) as made:
        stream = made.stream([ADD_ONE] * 9, [f"    return x  # {i}\n" for i in range(9)])
        next(stream)
        with pytest.raises(TaskError, match="one stream at a time"):
            made.grade([ADD_ONE], ["    return x\n"])
        made.close()  # with the stream still open, as when an error leaves the loop over it


def test_ctrl_c_ends_the_batch_and_the_workers():
    script = (
        "from sr_reward import *\n"
        "t = Task(task_id='t', prompt='def f():\\n', entry_point='f',"
        " tests=CallTests(cases=(CallCase(expected=1),)))\n"
        "g = CodeGrader(workers=1, timeout_s=60, isolation='limits')\n"
        "g.grade([t], ['    return 1\\n'])\n"
        "print(g.sandbox._lanes[0].workers['slim'].process.pid, flush=True)\n"
        "g.grade([t], ['    while True: pass\\n'])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # a shell that puts the tests in the background has them ignore SIGINT, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    worker = int(process.stdout.readline())
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert b"KeyboardInterrupt" in errors
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_a_fork_of_the_trainer_grades_with_workers_of_its_own(grader):
    grader.grade([ADD_ONE], ["    return x\n"])
    pid = os.fork()
    if pid == 0:
        good = grader.grade([ADD_ONE], ["    return x + 1\n"])[0].outcome == "passed"
        grader.close()
        os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert grader.grade([ADD_ONE], ["    return x + 1\n"])[0].outcome == "passed"


def test_concurrent_callers_are_served_one_after_the_other(grader):
    found = []
    threads = [
        threading.Thread(target=lambda: found.extend(grader.grade([ADD_ONE] * 9, ["    return x + 1\n"] * 9)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [grade.outcome for grade in found] == ["passed"] * 36


def test_verdicts_do_not_depend_on_the_load(grader):
    """Beside many busy processes a program that needs half its CPU time passes, and an endless one does not."""
    work = "    import time\n    end = time.process_time() + 0.2\n    while time.process_time() < end: pass\n"
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(6)]
    try:
        one = calls(((1, []), 2))
        grades = grader.grade([one] * 2, [f"{work}    return x + 1\n", "    while 1: pass\n"])
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    assert [grade.outcome for grade in grades] == ["passed", "timeout"]


def test_stdio_programs_are_compared_by_tokens(grader):
    case = StdioCase(stdin="3 4\n", stdout="7\n1 2\n")
    task = Task(task_id="s", prompt="", entry_point="", tests=StdioTests(cases=(case,)))
    programs = {
        "a, b = map(int, input().split())\nprint(a + b)\nprint('1  2  ')": "passed",
        "import os\nt = os.read(0, 99).split()\nprint(int(t[0]) + int(t[1]), '1 2', sep='\\n', end='')": "passed",
        "print(open(0).read() and 7)\nprint(1, 2)\nimport sys\nsys.exit(0)": "passed",
        "print(7)": "failed",
        "print(7, 1, 2)": "failed",
        "print(7)\nprint(1, 2)\n1/0": "failed",
        "import sys\nprint(7)\nprint(1, 2)\nsys.exit(3)": "crashed",
        "while True: print('x' * 10000)": "failed",
        "if __name__ == '__main__':\n    print(7)\n    print(1, 2)": "passed",
        "import threading\nthreading.Thread(target=lambda: print('7\\n1 2')).start()": "passed",
    }
    grades = grader.grade([task] * len(programs), list(programs), solutions=True)
    assert {text: grade.outcome for text, grade in zip(programs, grades, strict=True)} == programs


def test_several_accepted_answers(grader):
    case = CallCase(args=(1, []), expected=2, accepted=([3], "three"))
    task = Task(task_id="t", prompt=PROMPT, entry_point="f", tests=CallTests(cases=(case,)))
    texts = ["    return 2\n", "    return [3]\n", "    return 'three'\n", "    return 3\n"]
    assert [g.reward for g in grader.grade([task] * 4, texts)] == [1.0, 1.0, 1.0, 0.0]


def test_a_checker_decides_in_place_of_the_comparison(grader):
    checker = "def check(x, ys, output, expected):\n    return abs(output) == expected\n"
    task = calls(((3, []), 3), checker=checker)
    texts = ["    return -x\n", "    return x\n", "    return x + 1\n", "    return 'x'\n"]
    assert [g.outcome for g in grader.grade([task] * 4, texts)] == ["passed", "passed", "failed", "failed"]


def test_methods_are_entry_points(grader):
    case = CallCase(args=(2,), expected=4)
    whole = "class Solution:\n    def twice(self, x):\n        return 2 * x\n"
    for name in ("twice", "Solution.twice"):
        task = Task(task_id="m", prompt="", entry_point=name, tests=CallTests(cases=(case,)))
        assert grader.grade([task], [whole], solutions=True)[0].outcome == "passed"


def test_an_asserts_task_in_the_same_batch_as_calls(grader):
    asserts = Task(task_id="a", prompt=PROMPT, entry_point="f", tests=AssertTests(code="assert f(1, []) == 2\n"))
    good, bad = "    return x + 1\n", "    return x\n"
    grades = grader.grade([asserts, ADD_ONE] * 2, [good, good, bad, bad])
    assert [grade.outcome for grade in grades] == ["passed", "passed", "failed", "failed"]


@pytest.mark.parametrize(
    "program",
    [
        "print(7)\nexit()",
        "print(7)\nquit()",
        "import atexit, io, sys\nsys.stdout = io.StringIO()\n"
        "atexit.register(lambda: sys.__stdout__.write(sys.stdout.getvalue()))\nprint(7)",
        "out = open(1, 'w')\nout.write('7\\n')",
        "import sys\nsys.stdout = out = open(1, 'w', closefd=False)\nprint(7)",
        "import sys\nprint(7)\ndel sys.modules['__main__']",
        "import sys\nprint(7)\nsys.modules['__main__'] = sys.stdout",
    ],
)
def test_a_script_ends_as_the_interpreter_ends_it(grader, program):
    task = Task(task_id="t", prompt="", entry_point="", tests=StdioTests(cases=(StdioCase(stdin="", stdout="7"),)))
    (found,) = grader.grade([task], [program])
    assert found.outcome == "passed", found


def test_an_exit_status_is_no_answer_however_it_is_given(grader):
    task = Task(task_id="t", prompt="", entry_point="", tests=StdioTests(cases=(StdioCase(stdin="", stdout="7"),)))
    for end in ("import sys; sys.exit(3)", "import os; os._exit(3)", "exit('bad')"):
        (found,) = grader.grade([task], [f"print(7, flush=True)\n{end}"])
        assert found.outcome == "crashed", found


def asserting(code, prompt=PROMPT):
    return Task(task_id="a", prompt=prompt, entry_point="f", tests=AssertTests(code=code))


def test_programs_that_share_a_judge_do_not_wait_in_their_own_time():
    sleeper = "import time\ndef f(x):\n    time.sleep(0.9)\n    return x + 1\n"
    prompt = "def f(x):\n    pass\n"
    with CodeGrader(workers=1, timeout_s=1.0, deduplicate=False) as made:
        found = made.grade([asserting("assert f(1) == 2", prompt)] * 6, [sleeper] * 5 + ["def f(x): return x + 1"])
    assert [grade.outcome for grade in found] == ["passed"] * 6


def test_objects_of_the_program_show_themselves_and_take_those_of_the_prompts_classes(grader):
    prompt = (
        "class Node:\n    def __init__(self, below=None):\n        self.below = below\n\ndef f(node: Node) -> int:\n"
    )
    depth = "    return 1 + f(node.below) if node else 0\n"
    task = asserting("assert f(Node(Node())) == 2\n", prompt)
    assert grader.grade([task], [depth])[0].outcome == "passed"
    both = "class P:\n    def __str__(self): return 'one'\n    def __repr__(self): return 'P()'\ndef f(): return P()\n"
    task = asserting("assert repr(f()) == 'P()' and str(f()) == 'one'\n", "")
    assert grader.grade([task], [both])[0].outcome == "passed"


def test_tests_that_cannot_run_here_are_no_programs_fault(grader):
    checker = "import no_such_module\ndef check(args, kwargs, output, expected): return True\n"
    for task in (asserting("import no_such_module\nassert f(1, [])\n"), calls(((1, []), 2), checker=checker)):
        (found,) = grader.grade([task], ["    return x + 1\n"])
        assert (found.outcome, found.reward) == ("infra_error", None)
        assert "no_such_module" in found.detail
    (found,) = grader.grade([asserting("assert f(1, []) == 2\n")], ["    import no_such_module\n"])
    assert found.outcome == "failed"


AS_SOMEBODY = """
import os
from sr_reward import CallCase, CallTests, CodeGrader, IsolationError, Task
task = Task(task_id="t", prompt="", entry_point="f", tests=CallTests(cases=(CallCase(expected=1),)))
locks = "import os\\ndef f():\\n    os.chmod('/tmp', 0)\\n    return 0\\n"
uses = "import tempfile\\ndef f():\\n    tempfile.TemporaryFile()\\n    return 1\\n"
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(12345)
    os.setuid(12345)
try:
    with CodeGrader(workers=1, isolation="full") as grader:
        print(*[grade.outcome for grade in grader.grade([task] * 4, [locks, uses, locks, uses])])
except IsolationError:
    print("not isolated")
"""


def test_a_program_of_the_graders_own_user_cannot_lock_the_private_folder():
    source = str(Path(sr_reward.__file__).parents[1])
    # root's own interpreter may lie where nobody else can go
    python = "/usr/bin/python3" if os.geteuid() == 0 and Path("/usr/bin/python3").exists() else sys.executable
    done = subprocess.run(
        [python, "-c", AS_SOMEBODY], capture_output=True, text=True, cwd="/", env={**os.environ, "PYTHONPATH": source}
    )
    if "not isolated" in done.stdout or "PermissionError" in done.stderr or "ImportError" in done.stderr:
        pytest.skip("an ordinary user has no isolation, or not this interpreter, here")
    assert done.stdout.split() == ["failed", "passed", "failed", "passed"], done.stderr
