"""Runs test code that only defines its tests: classes of ``unittest`` and functions called ``test_...``."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def run_cases(names: dict[str, Any]) -> None:
    """Run every test of the test code, in the order in which it is written.

    Raises what the first failing test raised; AssertionError where no test ran or one was skipped: neither says
    anything about the program. Functions may be marked with ``pytest.mark.parametrize``; fixtures are not known.
    """
    ran = 0
    unittest = sys.modules.get("unittest")
    for name, found in list(names.items()):
        if unittest and isinstance(found, type) and issubclass(found, unittest.TestCase):
            ran += _run_class(unittest, found)
        elif isinstance(found, type) and name.startswith("Test") and found.__module__ == names["__name__"]:
            for method in [key for key in vars(found) if key.startswith("test")]:
                ran += _run_function(getattr(found(), method))
        elif name.startswith("test") and type(found) is type(run_cases) and found.__module__ == names["__name__"]:
            ran += _run_function(found)
    if not ran:
        raise AssertionError("the test code holds no test that ran")


def _run_class(unittest: Any, kind: Any) -> int:
    result = unittest.TestResult()
    result.failfast = True
    kept: list[BaseException] = []

    def keep(test: Any, error: Any) -> None:
        kept.append(error[1])

    result.addError = result.addFailure = keep
    result.addSubTest = lambda test, part, error: keep(test, error) if error else None
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(kind)
    for test in suite:
        test.run(result)
        if kept:
            raise kept[0]
        if result.skipped or result.unexpectedSuccesses:
            raise AssertionError("a test was skipped")
    return int(result.testsRun)


def _run_function(function: Any) -> int:
    rows: list[dict[str, Any]] = [{}]
    for mark in getattr(function, "pytestmark", ()):
        if mark.name == "parametrize":
            rows = [{**row, **more} for more in _parameters(*mark.args[:2]) for row in rows]
        elif mark.name in ("skip", "skipif", "xfail"):
            raise AssertionError("a test was skipped")
    for row in rows:
        function(**row)
    return len(rows)


def _parameters(names: Any, values: Any) -> list[dict[str, Any]]:
    keys = [key.strip() for key in names.split(",")] if isinstance(names, str) else list(names)
    rows = []
    for value in values:
        value = getattr(value, "values", value) if type(value).__name__ == "ParameterSet" else value
        rows.append(dict(zip(keys, value if len(keys) > 1 else (value,), strict=True)))
    return rows
