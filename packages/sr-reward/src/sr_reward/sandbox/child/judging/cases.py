"""Runs test code that only defines its tests: classes of ``unittest`` and functions called ``test_...``."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class NoVerdict(Exception):
    """The tests say nothing about any program: there are none, they are skipped here, or they need fixtures."""


def run_cases(names: dict[str, Any]) -> None:
    """Run every test of the test code, in the order in which it is written.

    Raises what the first failing test raised; NoVerdict where no test ran or one was skipped. Functions may be
    marked with ``pytest.mark.parametrize``; fixtures are not known.
    """
    ran = 0
    unittest = sys.modules.get("unittest")
    for name, found in list(names.items()):
        own = getattr(found, "__module__", None) == names.get("__name__")
        if unittest and isinstance(found, type) and issubclass(found, unittest.TestCase):
            ran += _run_class(unittest, found) if own else 0
        elif own and isinstance(found, type) and name.startswith("Test"):
            for method in [key for key in vars(found) if key.startswith("test")]:
                ran += _run_function(getattr(found(), method))
        elif own and name.startswith("test") and type(found) is type(run_cases):
            ran += _run_function(found)
    if not ran:
        raise NoVerdict("the test code holds no test that ran")


def _run_class(unittest: Any, kind: Any) -> int:
    result = unittest.TestResult()
    kept: list[BaseException] = []

    def keep(test: Any, error: Any) -> None:
        kept.append(error[1])

    result.addError = result.addFailure = keep
    result.addSubTest = lambda test, part, error: keep(test, error) if error else None
    # as a suite, which also runs what is set up for the class as a whole
    unittest.TestSuite(unittest.defaultTestLoader.loadTestsFromTestCase(kind)).run(result)
    if kept:
        raise kept[0]
    if result.skipped:
        raise NoVerdict(f"a test is skipped here: {result.skipped[0][1]}")
    if result.unexpectedSuccesses:
        raise AssertionError("a test passed that is expected to fail")
    return int(result.testsRun)


def _run_function(function: Any) -> int:
    rows: list[dict[str, Any]] = [{}]
    for mark in getattr(function, "pytestmark", ()):
        if mark.name == "parametrize":
            rows = [{**row, **more} for more in _parameters(*mark.args[:2]) for row in rows]
        elif mark.name in ("skip", "skipif", "xfail"):
            raise NoVerdict("a test is marked as skipped")
    code = getattr(function, "__func__", function).__code__
    wanted = set(code.co_varnames[: code.co_argcount]) - {"self"}
    fixtures = sorted(wanted.difference(rows[0]))
    if fixtures and not (function.__defaults__ or ()):
        raise NoVerdict(f"a test needs the pytest fixture {fixtures[0]}")
    for row in rows:
        function(**row)
    return len(rows)


def _parameters(names: Any, values: Any) -> list[dict[str, Any]]:
    keys = [key.strip() for key in names.split(",")] if isinstance(names, str) else list(names)
    rows = []
    for value in values:
        row = value.values if type(value).__name__ == "ParameterSet" else value
        rows.append(dict(zip(keys, row if len(keys) > 1 or row is not value else (row,), strict=True)))
    return rows
