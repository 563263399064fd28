"""Tests of unittest and pytest style, tests that cannot run apart from the program, and packages."""

import sys
from pathlib import Path

import pytest

from sr_reward import AssertTests, CodeGrader, Task, TaskError

NUMPY = next((Path(path) for path in sys.path if (Path(path) / "numpy").is_dir()), None)


@pytest.fixture(scope="module")
def grader():
    with CodeGrader(workers=1, timeout_s=3.0) as made:
        yield made


@pytest.fixture(scope="module")
def joint():
    with CodeGrader(workers=1, timeout_s=3.0, separation="none") as made:
        yield made


def asserting(code, *, cases=False):
    return Task(task_id="t", prompt="", entry_point="add", tests=AssertTests(code=code, cases=cases))


UNITTEST = (
    "import unittest\nclass TestCases(unittest.TestCase):\n"
    "    @classmethod\n    def setUpClass(cls): cls.one = 1\n"
    "    def test_sum(self): self.assertEqual(add(self.one), 2)\n"
    "    def test_type(self):\n        with self.assertRaises(TypeError): add('a')\n"
)
FUNCTIONS = (
    "from solution import add\ndef test_one():\n    assert add(1) == 2\n"
    "class TestMore:\n    def test_two(self): assert add(2) == 3\n"
)


@pytest.mark.parametrize("code", [UNITTEST, FUNCTIONS])
def test_every_case_of_the_test_code_is_run(grader, code):
    programs = ["def add(x): return x + 1\n", "def add(x): return 2\n", "def add(x): raise SystemExit\n"]
    outcomes = [g.outcome for g in grader.grade([asserting(code, cases=True)] * 3, programs, solutions=True)]
    assert outcomes == ["passed", "failed", "crashed"]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("x = 1\n", "no test that ran"),
        (
            "import unittest\nclass T(unittest.TestCase):\n    @unittest.skip('slow')\n    def test(self): pass\n",
            "skipped",
        ),
        ("def test_out(capsys): assert add(1) == 2\n", "fixture capsys"),
    ],
)
def test_cases_that_do_not_run_are_no_verdict(grader, code, reason):
    for program in ("def add(x): return x + 1\n", "def add(x): return 0\n"):
        (found,) = grader.grade([asserting(code, cases=True)], [program], solutions=True)
        assert (found.outcome, found.reward) == ("infra_error", None)
        assert reason in found.detail
        assert found.is_unfit


PATCHED = "from unittest.mock import patch\nwith patch('time.time', return_value=5):\n    assert add() == 6\n"


def test_what_needs_one_process_is_no_verdict_and_with_separation_none_a_marked_one(grader, joint):
    programs = ["import time\ndef add(): return time.time() + 1\n", "def add(): return 0\n"]
    apart = grader.grade([asserting(PATCHED)] * 2, programs, solutions=True)
    assert [(g.outcome, g.separation) for g in apart] == [("infra_error", "processes")] * 2
    assert "patch time.time" in apart[0].detail
    together = joint.grade([asserting(PATCHED)] * 2, programs, solutions=True)
    assert [(g.outcome, g.separation) for g in together] == [("passed", "none"), ("failed", "none")]


def test_separation_none_leaves_apart_what_can_be_apart(joint):
    liar = "class Yes:\n    __eq__ = lambda self, other: True\n    __hash__ = None\ndef add(x): return Yes()\n"
    (found,) = joint.grade([asserting("assert add(1) == 2\n")], [liar], solutions=True)
    assert (found.outcome, found.separation) == ("failed", "processes")


def test_no_program_can_make_its_tests_unfit(grader):
    """An infra_error is no reward, which a program would rather have than 0."""
    programs = [
        "import unittest\ndef add(x): raise unittest.SkipTest('later')\n",
        "def add(x): raise ImportError('no module')\n",
        "def add(x):\n    import no_such_module\n",
        "import tempfile\ndef add(x): return tempfile.mkdtemp() + '/x'\n",
        "class NoVerdict(Exception): pass\ndef add(x): raise NoVerdict('the test code holds no test that ran')\n",
        "unfit = type('?unfit', (Exception,), {})\ndef add(x): raise unfit('x')\n",
    ]
    tasks = [asserting(UNITTEST, cases=True)] * len(programs)
    assert {g.outcome for g in grader.grade(tasks, programs, solutions=True)} <= {"failed", "crashed"}
    opened = asserting("assert open(add(1)).read() == 'abc'\n")
    assert grader.grade([opened], [programs[3]], solutions=True)[0].outcome == "failed"


def test_separation_has_two_values():
    with pytest.raises(TaskError, match="separation must be one of processes, none"):
        CodeGrader(separation="some")


def test_packages_must_be_those_of_this_python(tmp_path):
    with pytest.raises(TaskError, match=r"got .* with none"):
        CodeGrader(packages=str(tmp_path))
    (tmp_path / "lib" / "python2.7" / "site-packages").mkdir(parents=True)
    with pytest.raises(TaskError, match=r"packages for python2\.7"):
        CodeGrader(packages=str(tmp_path))


@pytest.mark.parametrize("level", ["full", "landlock", "limits"])
def test_packages_can_be_imported_and_not_changed(level, tmp_path):
    folder = tmp_path / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    folder.mkdir(parents=True)
    (folder / "doubling.py").write_text("def double(x): return 2 * x\n")
    program = (
        "import doubling\ndef add(x):\n    try: open(doubling.__file__, 'w')\n    except OSError: pass\n"
        "    return doubling.double(x)\n"
    )
    try:
        with CodeGrader(workers=1, isolation=level, packages=str(tmp_path)) as made:
            (found,) = made.grade([asserting("assert add(2) == 4\n")], [program], solutions=True)
            assert found.outcome == "passed", found
            used = asserting("import doubling\nassert add(2) == doubling.double(2)\n")
            (found,) = made.grade([used], [program], solutions=True)
            assert found.outcome == "infra_error"
            assert "doubling, whose objects do not leave their process" in found.detail
    except Exception as error:
        if type(error).__name__ == "IsolationError":
            pytest.skip(f"no level {level} here")
        raise
    if level != "limits":  # which forbids no file
        assert (folder / "doubling.py").read_text().startswith("def double")


@pytest.mark.skipif(NUMPY is None, reason="numpy is not installed here")
def test_arrays_cross_as_data_and_change_in_place():
    code = (
        "import numpy as np\nnumbers = np.arange(3)\ntotal = add(numbers)\n"
        "assert total == 6 and isinstance(total, np.integer)\nassert numbers.tolist() == [1, 2, 3]\n"
        "np.testing.assert_allclose(add(np.array([0.5])), 1.5)\n"
    )
    honest = "def add(a):\n    a += 1\n    return a.sum()\n"
    lying = (
        "import numpy as np\nclass Liar(np.ndarray):\n    __eq__ = lambda self, other: True\n    __hash__ = None\n"
        "def add(a): return np.zeros(3).view(Liar)\n"
    )
    with CodeGrader(workers=1, packages=str(NUMPY)) as made:
        outcomes = [g.outcome for g in made.grade([asserting(code)] * 2, [honest, lying], solutions=True)]
    assert outcomes[0] == "passed"
    assert outcomes[1] in ("failed", "crashed")
