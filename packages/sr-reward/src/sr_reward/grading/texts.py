"""Whether a printed text is the expected one, by the rule of each format's own grader.

Runs in the reader (``grading.reader``). Each rule is one pass over both texts and holds no list of their lines or
tokens, so that its memory does not grow with what a program prints.

| rule | equal are | source |
|---|---|---|
| ``lines`` | lines of equal tokens; white space at ends and last blank lines dropped; numbers within a tolerance, if any | this project's own tests |
| ``apps`` | lines of equal tokens, blank lines dropped; numbers as numpy's ``allclose`` has it (1e-5 relative, 1e-8 absolute), two whole numbers exactly | hendrycks/apps ``eval/testing_util.py``, with the whole numbers of verl ``prime_code/testing_util.py`` |
| ``codecontests`` | tokens, wherever lines end, in any case of ASCII letters; numbers closer than 1e-5, two whole numbers exactly | google-deepmind/code_contests ``execution/tester_sandboxer.cc`` |
| ``livecodebench`` | lines of the stripped text, each stripped: the same text or the same decimal numbers, exactly | LiveCodeBench ``lcb_runner/evaluation/testing_util.py`` |
"""  # noqa: E501  # a table

from __future__ import annotations

import math
import re
from decimal import Decimal, InvalidOperation
from itertools import zip_longest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_NUMBER = re.compile(
    r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:inf|infinity|nan)", re.ASCII | re.IGNORECASE
)
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_TOKEN = re.compile(r"\S+")
_CONTEST_TOKEN = re.compile(r"[^ \n\t\r\v]+")
_UPPER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_CONTEST_DISTANCE = 1e-5


def same_text(printed: str, expected: str, *, rule: str = "lines", tolerance: float = 0.0) -> bool:
    """Whether ``printed`` is ``expected`` by the rule; ``tolerance`` is that of ``lines``."""
    if printed == expected:
        return True
    if rule == "apps":
        return _same_lines(printed, expected, _close_as_numpy, blank=False)
    if rule == "codecontests":
        return _same_contest_tokens(printed, expected)
    if rule == "livecodebench":
        return _same_decimals(printed.strip(), expected.strip())
    return _same_lines(printed.rstrip(), expected.rstrip(), lambda a, b: _close(a, b, tolerance), blank=True)


def _same_lines(printed: str, expected: str, same: Callable[[str, str], bool], *, blank: bool) -> bool:
    pairs = zip_longest(_lines(printed, blank=blank), _lines(expected, blank=blank))
    for got, wanted in pairs:
        if got is None or wanted is None:
            return False
        if got == wanted:
            continue
        for mine, theirs in zip_longest(_TOKEN.finditer(got), _TOKEN.finditer(wanted)):
            if mine is None or theirs is None or not same(mine[0], theirs[0]):
                return False
    return True


def _lines(text: str, *, blank: bool) -> Iterator[str]:
    """The lines of a text, stripped; blank ones only where they count."""
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        line = text[start:end].strip()
        start = end + 1
        if line or blank:
            yield line


def _close(printed: str, expected: str, tolerance: float) -> bool:
    if printed == expected:
        return True
    if tolerance <= 0 or not (_NUMBER.fullmatch(printed) and _NUMBER.fullmatch(expected)):
        return False
    if _WHOLE.fullmatch(printed) and _WHOLE.fullmatch(expected):
        return _same_whole(printed, expected)
    a, b = float(printed), float(expected)
    return (a != a and b != b) or math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)


def _close_as_numpy(printed: str, expected: str) -> bool:
    if printed == expected:
        return True
    if not (_NUMBER.fullmatch(printed) and _NUMBER.fullmatch(expected)):
        return False
    if _WHOLE.fullmatch(printed) and _WHOLE.fullmatch(expected):
        return _same_whole(printed, expected)
    a, b = float(printed), float(expected)
    return a == b or abs(a - b) <= 1e-8 + 1e-5 * abs(b) < math.inf


def _same_whole(printed: str, expected: str) -> bool:
    """Whether two texts of digits name one number; in linear time, which ``int`` does not take."""
    return _digits(printed) == _digits(expected)


def _digits(text: str) -> str:
    bare = text.lstrip("+-").lstrip("0")
    return "-" + bare if bare and text[0] == "-" else bare


def _same_contest_tokens(printed: str, expected: str) -> bool:
    pairs = zip_longest(_CONTEST_TOKEN.finditer(printed), _CONTEST_TOKEN.finditer(expected))
    for got, wanted in pairs:
        if got is None or wanted is None:
            return False
        mine, theirs = got[0].translate(_UPPER), wanted[0].translate(_UPPER)
        if mine == theirs:
            continue
        if not (_NUMBER.fullmatch(mine) and _NUMBER.fullmatch(theirs)):
            return False
        if _WHOLE.fullmatch(mine) and _WHOLE.fullmatch(theirs):
            if not _same_whole(mine, theirs):
                return False
        elif not abs(float(mine) - float(theirs)) < _CONTEST_DISTANCE:
            return False
    return True


def _same_decimals(printed: str, expected: str) -> bool:
    for got, wanted in zip_longest(_lines(printed, blank=True), _lines(expected, blank=True)):
        if got is None or wanted is None:
            return False
        if got == wanted:
            continue
        for mine, theirs in zip_longest(_TOKEN.finditer(got), _TOKEN.finditer(wanted)):
            if mine is None or theirs is None or not _same_decimal(mine[0], theirs[0]):
                return False
    return True


def _same_decimal(printed: str, expected: str) -> bool:
    try:
        return Decimal(printed) == Decimal(expected)
    except InvalidOperation:
        return False
