"""Tests of contest problems: two lists, or records, of what goes in and what comes out, as text or as calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sr_reward.errors import FormatError
from sr_reward.formats.fields import Row, Unusable, decoded
from sr_reward.task import CallCase, CallTests, StdioCase, StdioTests, Tests

NO_TESTS = "without tests"


def contest_tests(found: Any, named: str, *, format: str) -> tuple[str, Tests, str]:
    """``(entry point, tests, format)`` of either writing, which may be JSON text; ``named`` is the function where
    records do not say it. Records with a ``testtype`` are LiveCodeBench's, whatever the file."""
    found = decoded(found, "the tests")
    if isinstance(found, dict):
        return found.get("fn_name") or named, paired_tests({"fn_name": named, **found}, rule="apps"), format
    if any("testtype" in case for case in found or []):
        format = "livecodebench"
    rule = "livecodebench" if format == "livecodebench" else "apps"
    return *recorded_tests(found or [], named, rule=rule), format


def paired_tests(found: Any, *, rule: str) -> Tests:
    """Tests written as two lists, ``inputs`` and ``outputs``, and ``fn_name`` where they are calls."""
    if not found or not found.get("inputs"):
        raise Unusable(NO_TESTS)
    inputs, outputs = found["inputs"], found["outputs"]
    if len(inputs) != len(outputs):
        raise FormatError(f"inputs and outputs go in pairs, got {len(inputs)} and {len(outputs)}")
    pairs = list(zip(inputs, outputs, strict=True))
    if not found.get("fn_name"):
        return _printed(pairs, rule)
    return CallTests(cases=tuple(_apps_call(given, answer) for given, answer in pairs), exact_types=False)


def recorded_tests(cases: Sequence[Row], entry_point: str, *, rule: str) -> tuple[str, Tests]:
    """The entry point and the tests written as records: ``input``, ``output``, and what kind they are."""
    if not cases:
        raise Unusable(NO_TESTS)
    if not entry_point:
        entry_point = cases[0].get("fn_name") or ""
    if not entry_point and cases[0].get("testtype") == "functional":
        entry_point = (decoded(cases[0].get("metadata") or {}, "metadata") or {}).get("func_name") or ""
    pairs = [(case["input"], case["output"]) for case in cases]
    if not entry_point:
        return "", _printed(pairs, rule)
    if rule == "livecodebench":
        calls = [CallCase(args=tuple(_lines_of_json(given)), expected=_data(answer)) for given, answer in pairs]
    else:
        calls = [_apps_call(given, answer) for given, answer in pairs]
    return entry_point, CallTests(cases=tuple(calls), exact_types=False)


def _printed(pairs: Sequence[tuple[Any, Any]], rule: str) -> StdioTests:
    cases = tuple(StdioCase(stdin=_joined(given), stdout=_joined(answer)) for given, answer in pairs)
    return StdioTests(cases=cases, rule=rule)


def _joined(text: Any) -> str:
    """A text; the lines of a list; a number as it is printed."""
    if isinstance(text, list):
        return "\n".join(map(str, text))
    return str(text) if isinstance(text, (int, float)) else text


def _apps_call(given: Any, answer: Any) -> CallCase:
    """A call as APPS' grader has it: JSON made the keys of dicts texts, which are whole numbers again where all of
    them can be; an answer may stand in a list of its own."""
    args = _lines_of_json(given) if isinstance(given, str) else list(given)
    if isinstance(given, str):
        answer = _data(answer)
    whole = _with_whole_keys(answer)
    accepted: list[Any] = []
    if isinstance(answer, dict):
        accepted = [[whole]]
    elif isinstance(answer, list) and len(answer) == 1:
        accepted = [whole[0]]
    elif whole != answer:
        accepted = [answer]
    return CallCase(args=tuple(map(_with_whole_keys, args)), expected=whole, accepted=tuple(accepted))


def _with_whole_keys(found: Any) -> Any:
    """A dict, or each dict of a list, with whole numbers for keys where all of them can be."""
    if isinstance(found, list):
        return [_with_whole_keys(item) if isinstance(item, dict) else item for item in found]
    if not isinstance(found, dict):
        return found
    try:
        return {int(key): value for key, value in found.items()}
    except ValueError:
        return found


def _lines_of_json(text: str) -> list[Any]:
    return [_data(line) for line in text.split("\n") if line.strip()]


def _data(text: Any) -> Any:
    try:
        return decoded(text, "a test")
    except FormatError:
        raise Unusable("whose calls are not written as data") from None
