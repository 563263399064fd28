"""Whether what a program returned or printed is what was expected.

Runs in the reader (``grading.reader``), which bounds its CPU time and memory. Outputs arrive as the text of
``sandbox.child.codec`` and are compared while still in parsed form, led by the expected value. Keys and members of
sets are compared as text: a program can choose numbers whose hashes collide.
"""

from __future__ import annotations

import marshal
import math

from sr_reward.grading.texts import same_text
from sr_reward.sandbox.child.codec import CodecError, build_value, parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# first byte of an answer to the grader
RIGHT, WRONG, RAISED, BROKEN = b"=", b"x", b"e", b"?"


def answer_calls(spec: bytes, data: bytes) -> bytes:
    """In the reader: the answer to a request to compare what a program of ``CallTests`` wrote.

    ``spec`` is ``marshal`` data, made once per task: ``(float_tolerance, exact_types, compared, cases)`` with the
    values that each case accepts; without ``compared`` only the form is judged. ``RIGHT``; ``WRONG`` with a reason;
    ``RAISED`` with the exception's name, a new line and its message; ``BROKEN`` with what is amiss in the data.
    """
    tolerance, exact_types, compared, cases = marshal.loads(spec)
    try:
        outputs = parse_outputs(data)
    except CodecError as error:
        return _answer(BROKEN, str(error))
    error_row = reported_error(outputs)
    if error_row:
        return _answer(RAISED, "\n".join(error_row))
    if not (isinstance(outputs, list) and len(outputs) == len(cases)):
        return _answer(BROKEN, "its answers are incomplete")
    if not all(isinstance(row, list) and len(row) == 2 and row[0] == 1 for row in outputs):
        return _answer(BROKEN, "its answers are malformed")
    for number, (accepted, (_, output)) in enumerate(zip(cases, outputs, strict=True)):
        if compared and not _accepts(accepted, output, tolerance, exact_types=exact_types):
            return _answer(WRONG, f"case {number}: another value")
    return RIGHT


def answer_text(accepted: tuple[str, ...], rule: str, tolerance: float, data: bytes) -> bytes:
    """In the reader: whether what a program printed is one of the texts accepted, by a rule of ``grading.texts``."""
    printed = data.decode("utf-8", "replace")
    same = any(same_text(printed, wanted, rule=rule, tolerance=tolerance) for wanted in accepted)
    return RIGHT if same else WRONG


def _answer(kind: bytes, text: str) -> bytes:
    return kind + text.encode("utf-8", "replace")


def reported_error(outputs: object) -> tuple[str, str] | None:
    """The error that a program reports as the last of its rows, ``[0, kind, message]``."""
    row = outputs[-1] if isinstance(outputs, list) and outputs else None
    if isinstance(row, list) and len(row) == 3 and row[0] == 0:
        kind, message = row[1:]
        if isinstance(kind, str) and isinstance(message, str):
            return " ".join(kind[:80].split()), message[:300]
    return None


def _accepts(accepted: tuple[Any, ...], output: Any, tolerance: float, *, exact_types: bool) -> bool:
    try:
        return any(matches(output, wanted, tolerance=tolerance, exact_types=exact_types) for wanted in accepted)
    except (CodecError, TypeError, ValueError, OverflowError, RecursionError):
        return False  # a malformed or monstrous output equals nothing


class Tag:
    """A parsed but unbuilt ``{tag: content}``."""

    __slots__ = ("content", "name")

    def __init__(self, name: str, content: Any) -> None:
        self.name, self.content = name, content


def _keep(pairs: list[tuple[str, Any]]) -> Any:
    if len(pairs) != 1:
        raise CodecError("a tag has one key")
    if pairs[0][0] == "u":
        return build_value(pairs)
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
    return _pairs_match(content, expected, lambda item, wanted: matches(item, wanted, tolerance=tolerance))


def _pairs_match(content: Any, expected: dict[Any, Any], same: Callable[[Any, Any], bool]) -> bool:
    """Whether the parsed pairs have the keys of ``expected``, each once, with values that are the ``same``."""
    if type(content) is not list or len(content) != len(expected):
        return False
    wanted = {exact_key(key): value for key, value in expected.items()}
    for pair in content:
        if type(pair) is not list or len(pair) != 2:
            return False
        key = exact_key(pair[0])
        if key not in wanted or not same(pair[1], wanted.pop(key)):
            return False
    return not wanted


def _same_set(content: Any, expected: set[Any] | frozenset[Any]) -> bool:
    if type(content) is not list or len(content) != len(expected):
        return False
    return {exact_key(item) for item in content} == {exact_key(item) for item in expected}


def _same_scalar(parsed: Tag, expected: Any) -> bool:
    return parsed.name in ("i", "b", "c") and exact_key(parsed) == exact_key(expected)


def exact_key(value: Any) -> str:
    """A text that is equal only for values of equal type and value, plain or parsed: 1, 1.0 and True stay apart, NaN
    equals itself. Keys are compared as text because a program can choose numbers whose hashes collide."""
    kind = type(value)
    if kind is Tag:
        return _tag_key(value.name, value.content)
    if kind is list:
        return "[" + ",".join([exact_key(item) for item in value]) + "]"
    if kind is tuple:
        return _tag_key("t", value)
    if kind in (set, frozenset):
        return _tag_key("s" if kind is set else "z", value)
    if kind is dict:
        return _tag_key("d", value.items())
    if kind is int:
        return f"i{value:x}"
    if kind is float:
        return f"f{value + 0.0!r}"  # of the two zeros one
    if kind is complex:
        return _tag_key("c", (value.real, value.imag))
    if kind is bytes:
        return _tag_key("b", value.decode("latin-1"))
    if kind in (str, bool, type(None)):
        return repr(value)
    raise CodecError(f"a value of type {kind.__name__} is not plain data")


def _tag_key(name: str, content: Any) -> str:
    if name == "i":
        return f"i{int(content, 16):x}"
    if name == "b":
        return f"b{content!r}"
    if name in ("t", "c"):
        return f"{name}({','.join([exact_key(item) for item in content])})"
    if name in ("s", "z"):
        return f"{name}({','.join(sorted({exact_key(item) for item in content}))})"
    if name == "d":
        pairs = {exact_key(key): exact_key(item) for key, item in content}
        return f"d({','.join(sorted(f'{key}:{item}' for key, item in pairs.items()))})"
    raise CodecError(f"unknown tag {name!r:.20}")


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
        return _pairs_match(parsed.content, expected, lambda item, want: _matches_loosely(item, want, tolerance))
    return matches(parsed, expected, tolerance=tolerance)
