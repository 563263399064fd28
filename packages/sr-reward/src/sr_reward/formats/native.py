"""The native format: tests as data, of three kinds."""

from __future__ import annotations

import ast
import math
from typing import Any

from sr_reward.canonical import canonical
from sr_reward.errors import FormatError
from sr_reward.formats.fields import Row, list_of, name_of, text_of
from sr_reward.task import AssertTests, CallCase, CallTests, StdioCase, StdioTests, Task, Tests


def native(row: Row) -> Task:
    tests = row["tests"]
    kind = tests.get("kind") if isinstance(tests, dict) else None
    if kind not in ("calls", "asserts", "stdio"):
        raise FormatError(f"tests.kind must be calls, asserts or stdio, got {kind!r}")
    built: Tests
    if kind == "asserts":
        built = AssertTests(code=tests["code"], cases=tests.get("cases", False) is True)
    elif kind == "calls":
        options = {key: tests[key] for key in ("float_tolerance", "exact_types", "checker") if key in tests}
        built = CallTests(cases=tuple(_native_case(case) for case in list_of(tests, "cases")), **options)
    else:
        options = {key: tests[key] for key in ("float_tolerance", "checker", "rule") if key in tests}
        built = StdioTests(cases=tuple(_stdio_case(case) for case in list_of(tests, "cases")), **options)
    prompt = text_of(row, "prompt")
    return Task(
        task_id=name_of(row, "task_id"),
        prompt=prompt,
        entry_point=row.get("entry_point", ""),
        tests=built,
        tier=row.get("tier", ""),
        family=row.get("family", ""),
        reference=row.get("reference", ""),
        prompt_is_code=bool(row.get("prompt_is_code", kind != "stdio")),
        deterministic=bool(row.get("deterministic", True)),
        starter=row.get("starter", ""),
    )


def native_row(task: Task) -> Row:
    """A task of the native format as a row that ``native`` reads. Raises FormatError for a value that no literal
    writes."""
    tests, row = task.tests, dict[str, Any]()
    if isinstance(tests, AssertTests):
        row = {"kind": "asserts", "code": tests.code, "cases": tests.cases}
    elif isinstance(tests, CallTests):
        options = {"float_tolerance": tests.float_tolerance, "exact_types": tests.exact_types, "checker": tests.checker}
        row = {"kind": "calls", **options, "cases": [_written_case(case) for case in tests.cases]}
    else:
        options = {"float_tolerance": tests.float_tolerance, "checker": tests.checker, "rule": tests.rule}
        cases = [{"stdin": c.stdin, "stdout": c.stdout, "accepted": list(c.accepted)} for c in tests.cases]
        row = {"kind": "stdio", **options, "cases": cases}
    names = ("task_id", "prompt", "entry_point", "tier", "family", "reference", "prompt_is_code", "deterministic")
    return {**{name: getattr(task, name) for name in (*names, "starter")}, "tests": row}


def _written_case(case: CallCase) -> Row:
    return {
        "args": [_written(arg) for arg in case.args],
        "kwargs": {key: _written(arg) for key, arg in case.kwargs.items()},
        "expected": _written(case.expected),
        "accepted": [_written(answer) for answer in case.accepted],
    }


def _written(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, list):
        return [_written(item) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value) and list(value) != ["$py"]:
        return {key: _written(item) for key, item in value.items()}
    try:
        if ast.literal_eval(text := canonical(value)) == value:
            return {"$py": text}
    except (ValueError, SyntaxError):
        pass
    raise FormatError(f"a native row holds values that a Python literal can write, got {value!r:.60}")


def _native_case(case: Row) -> CallCase:
    if "expected" not in case:
        raise FormatError(f"a calls case must hold expected, got the keys {', '.join(sorted(case)) or 'none'}")
    return CallCase(
        args=tuple(_value(arg) for arg in list_of(case, "args", [])),
        kwargs={key: _value(arg) for key, arg in case.get("kwargs", {}).items()},
        expected=_value(case["expected"]),
        accepted=tuple(_value(answer) for answer in list_of(case, "accepted", [])),
    )


def _value(given: Any) -> Any:
    """A JSON value, in which ``{"$py": "(1, 2)"}`` writes what JSON cannot: a Python literal."""
    if isinstance(given, list):
        return [_value(item) for item in given]
    if isinstance(given, dict):
        if list(given) == ["$py"]:
            return ast.literal_eval(given["$py"])
        return {key: _value(item) for key, item in given.items()}
    return given


def _stdio_case(case: Row) -> StdioCase:
    return StdioCase(stdin=case["stdin"], stdout=case["stdout"], accepted=tuple(list_of(case, "accepted", [])))
