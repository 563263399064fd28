"""Whether what a program returned or printed is what was expected. Runs in the grader's process.

Outputs arrive as the text of ``sandbox.child.codec``. They are compared while still in parsed form, led by the expected
value: nothing of the program's making is hashed, ordered or built beyond what the expected value's size allows.
"""

from __future__ import annotations

import math
from typing import Any

from sr_reward.sandbox.child.codec import CodecError, build_value, parse


class Tag:
    """A parsed but unbuilt ``{tag: content}``."""

    __slots__ = ("content", "name")

    def __init__(self, name: str, content: Any) -> None:
        self.name, self.content = name, content


def _keep(pairs: list[tuple[str, Any]]) -> Tag:
    if len(pairs) != 1:
        raise CodecError("a tag has one key")
    return Tag(*pairs[0])


def parse_outputs(data: bytes) -> Any:
    """The parsed, unbuilt form of what a program wrote. Raises CodecError."""
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        raise CodecError("malformed data (not ASCII)") from None
    return parse(text, _keep)


def matches(parsed: Any, expected: Any, *, tolerance: float = 0.0, exact_types: bool = True) -> bool:
    """Whether the parsed output is ``expected`` under the rules of ``CallTests``."""
    if not exact_types:
        return _matches_loosely(parsed, expected, tolerance)
    kind = type(expected)
    if kind is float:
        return _same_float(parsed, expected, tolerance)
    if kind is list:
        return type(parsed) is list and _all_match(parsed, expected, tolerance)
    if kind in (bool, str, type(None)):
        return type(parsed) is kind and bool(parsed == expected)
    if kind is int and type(parsed) is int:
        return bool(parsed == expected)
    if type(parsed) is not Tag:
        return False
    name, content = parsed.name, parsed.content
    if kind is tuple:
        return name == "t" and type(content) is list and _all_match(content, expected, tolerance)
    if kind is dict:
        return name == "d" and _same_dict(content, expected, tolerance)
    if kind in (set, frozenset):
        return name == ("s" if kind is set else "z") and _same_set(content, expected)
    return _same_scalar(parsed, expected)


def _all_match(parsed: list[Any], expected: Any, tolerance: float) -> bool:
    return len(parsed) == len(expected) and all(
        matches(item, wanted, tolerance=tolerance) for item, wanted in zip(parsed, expected, strict=True)
    )


def _same_float(parsed: Any, expected: float, tolerance: float) -> bool:
    if type(parsed) is not float:
        if not (type(parsed) is int and tolerance > 0):
            return False
        parsed = float(parsed)
    if parsed == expected or (parsed != parsed and expected != expected):
        return True
    return tolerance > 0 and math.isclose(parsed, expected, rel_tol=tolerance, abs_tol=tolerance)


def _same_dict(content: Any, expected: dict[Any, Any], tolerance: float) -> bool:
    if type(content) is not list or len(content) != len(expected):
        return False
    wanted = {_exact_key(key): value for key, value in expected.items()}
    for pair in content:
        if type(pair) is not list or len(pair) != 2:
            return False
        key = _exact_key(_build(pair[0]))
        if key not in wanted or not matches(pair[1], wanted.pop(key), tolerance=tolerance):
            return False
    return not wanted


def _same_set(content: Any, expected: set[Any] | frozenset[Any]) -> bool:
    if type(content) is not list or len(content) != len(expected):
        return False
    return {_exact_key(_build(item)) for item in content} == {_exact_key(item) for item in expected}


def _same_scalar(parsed: Tag, expected: Any) -> bool:
    if parsed.name not in ("i", "b", "c"):
        return False
    value = _build(parsed)
    return type(value) is type(expected) and (value == expected or _exact_key(value) == _exact_key(expected))


def _build(parsed: Any) -> Any:
    """The plain value of a parsed one (small: only keys, set items and scalars are built)."""
    if type(parsed) is Tag:
        content = parsed.content
        return build_value([(parsed.name, [_build(item) for item in content] if type(content) is list else content)])
    if type(parsed) is list:
        return [_build(item) for item in parsed]
    return parsed


def _exact_key(value: Any) -> Any:
    """A hashable that is equal only for values of equal type: 1, 1.0 and True stay apart, NaN equals itself."""
    kind = type(value)
    if kind in (tuple, list):
        return kind, tuple(_exact_key(item) for item in value)
    if kind in (set, frozenset):
        return kind, frozenset(_exact_key(item) for item in value)
    if kind is dict:
        return kind, frozenset((_exact_key(key), _exact_key(item)) for key, item in value.items())
    if kind is float:
        return kind, "nan" if value != value else value
    if kind is complex:
        return kind, _exact_key(value.real), _exact_key(value.imag)
    return kind, value


def _matches_loosely(parsed: Any, expected: Any, tolerance: float) -> bool:
    """Lists and tuples as one, numbers by value; sets and dicts as under exact types."""
    if type(parsed) is Tag and parsed.name == "t":
        parsed = parsed.content
    if type(expected) in (list, tuple):
        return (
            type(parsed) is list
            and len(parsed) == len(expected)
            and all(_matches_loosely(item, want, tolerance) for item, want in zip(parsed, expected, strict=True))
        )
    if type(expected) in (bool, int, float) and type(parsed) in (bool, int, float):
        if parsed == expected or (parsed != parsed and expected != expected):
            return True
        if float not in (type(expected), type(parsed)):
            return False  # of two whole numbers the last digit counts
        return tolerance > 0 and math.isclose(parsed, expected, rel_tol=tolerance, abs_tol=tolerance)
    if type(expected) is dict and type(parsed) is Tag and parsed.name == "d":
        content = parsed.content
        if type(content) is not list or len(content) != len(expected):
            return False
        wanted = {_exact_key(key): value for key, value in expected.items()}
        return all(
            type(pair) is list
            and len(pair) == 2
            and (key := _exact_key(_build(pair[0]))) in wanted
            and _matches_loosely(pair[1], wanted.pop(key), tolerance)
            for pair in content
        )
    return matches(parsed, expected, tolerance=tolerance)


def same_text(printed: str, expected: str, *, tolerance: float = 0.0) -> bool:
    """Whether the printed text is the expected one: equal lines after trailing white space and trailing blank
    lines are dropped, and within a line equal tokens (runs of white space count as one separator)."""
    if printed == expected:
        return True
    ours, theirs = _lines(printed), _lines(expected)
    return len(ours) == len(theirs) and all(
        len(got) == len(wanted) and all(_same_token(a, b, tolerance) for a, b in zip(got, wanted, strict=True))
        for got, wanted in zip(ours, theirs, strict=True)
    )


def _lines(text: str) -> list[list[str]]:
    return [line.split() for line in text.rstrip().splitlines()]


def _same_token(printed: str, expected: str, tolerance: float) -> bool:
    if printed == expected:
        return True
    if tolerance <= 0:
        return False
    try:
        if printed.lstrip("+-").isdigit() and expected.lstrip("+-").isdigit():
            return int(printed) == int(expected)  # of two whole numbers the last digit counts
        a, b = float(printed), float(expected)
    except ValueError:
        return False
    return (a != a and b != b) or math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)
