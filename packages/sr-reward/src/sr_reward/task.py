"""What a task is: a prompt, the name the program must define, and the tests that decide.

Every class is frozen and keyword-only and is checked when it is made: a task that exists can be graded.
"""

from __future__ import annotations

import marshal
import math
import symtable
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sr_reward.errors import TaskError
from sr_reward.rules import RULES
from sr_reward.sandbox.child.program import answer_of

TEXT_RULES = ("lines", "apps", "codecontests", "livecodebench")
# The values that may go into a program and come back from it. Sub-classes are not plain.
SCALARS = (type(None), bool, int, float, complex, str, bytes)


def is_plain(value: object) -> bool:
    """Whether ``value`` is made only of None, bool, int, float, complex, str, bytes, list, tuple, set,
    frozenset and dict, each of exactly that type and without cycles."""
    try:
        return _is_plain(value)
    except RecursionError:
        return False


def _is_plain(value: object) -> bool:
    kind = type(value)
    if kind in SCALARS:
        return True
    if kind in (list, tuple, set, frozenset):
        return all(_is_plain(item) for item in value)  # type: ignore[attr-defined]
    if kind is dict:
        return all(_is_plain(key) and _is_plain(item) for key, item in value.items())  # type: ignore[attr-defined]
    return False


@dataclass(frozen=True, kw_only=True)
class CallCase:
    """One call of the entry point and what it must return.

    ``accepted`` holds further answers that count as right beside ``expected``.
    """

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    expected: Any = None
    accepted: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if type(self.args) is not tuple or type(self.kwargs) is not dict:
            raise TaskError(
                f"a case's args must be a tuple and its kwargs a dict, got {type(self.args).__name__} and "
                f"{type(self.kwargs).__name__}; convert them first"
            )
        for name in ("args", "kwargs", "expected", "accepted"):
            if not is_plain(getattr(self, name)):
                raise TaskError(
                    f"a case's {name} must be plain values (numbers, strings, lists, tuples, sets, dicts), "
                    f"got {getattr(self, name)!r:.80}; use an asserts test for anything else"
                )


@dataclass(frozen=True, kw_only=True)
class CallTests:
    """Calls compared as data in the grader's own process.

    Types and values must be equal exactly (``1`` is not ``1.0``, ``True`` is not ``1``, a tuple is not a
    list; NaN equals NaN). ``float_tolerance`` above zero compares floats within that absolute or relative
    distance and lets an int stand for a float; two ints are never compared so. ``exact_types=False`` reads
    lists and tuples as one and numbers by value, as the published APPS and LiveCodeBench tests do. ``checker``
    is the source of a function ``check(args, kwargs, output, expected) -> bool`` that replaces the comparison;
    it runs in a judge process.
    """

    cases: tuple[CallCase, ...]
    float_tolerance: float = 0.0
    exact_types: bool = True
    checker: str = ""

    def __post_init__(self) -> None:
        _check_cases(self.cases, CallCase)
        _check_tolerance(self.float_tolerance)
        _check_checker(self.checker)

    def encoded_inputs(self) -> bytes:
        """All inputs as one block for the program's process (made once per task, without expected values)."""
        return _kept(self, "_inputs", lambda: marshal.dumps([(case.args, case.kwargs) for case in self.cases]))

    def encoded_rule(self) -> bytes:
        """What ``grading.compare.answer_calls`` needs to decide (made once per task)."""

        def make() -> bytes:
            cases = [(case.expected, *case.accepted) for case in self.cases]
            return marshal.dumps((self.float_tolerance, self.exact_types, not self.checker, cases))

        return _kept(self, "_rule", make)

    def usual_answer(self) -> bytes:
        """What a program writes that returns every expected value (made once per task)."""
        return _kept(self, "_answer", lambda: answer_of([case.expected for case in self.cases]))


def _kept(tests: object, name: str, make: Callable[[], bytes]) -> bytes:
    """A block that is made once: a cache, not a field, so that equality and repr do not see it."""
    block: bytes | None = tests.__dict__.get(name)
    if block is None:
        block = tests.__dict__[name] = make()
    return block


@dataclass(frozen=True, kw_only=True)
class AssertTests:
    """Test code (assert statements, or HumanEval's ``check(candidate)`` followed by a call of it).

    It runs in a judge process, where every name taken from the program is a proxy into the program's process; the
    program can also be imported as ``solution``. With ``cases`` the code defines tests (classes of ``unittest``,
    functions called ``test_...``), which are then run.
    """

    code: str
    cases: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.code, str) or not self.code.strip():
            raise TaskError(f"an asserts test needs code, got {self.code!r}; write at least one assert")
        _check_code(self.code, "an asserts test")


@dataclass(frozen=True, kw_only=True)
class StdioCase:
    """One run of the whole program: what it reads and must print (``accepted``: further right answers)."""

    stdin: str
    stdout: str
    accepted: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not all(isinstance(text, str) for text in (self.stdin, self.stdout, *self.accepted)):
            raise TaskError(f"a stdio case holds strings, got {self.stdin!r:.40} and {self.stdout!r:.40}")


@dataclass(frozen=True, kw_only=True)
class StdioTests:
    """Whole-program runs whose printed text is compared by ``rule``, one of ``TEXT_RULES``.

    ``lines`` compares line by line and token by token; white space at ends and blank last lines are ignored, and with
    ``float_tolerance`` above zero tokens that read as numbers may differ by that absolute or relative distance, two
    whole numbers not at all. The others are those of published graders (``sr_reward.grading.texts``).
    ``checker`` is the source of ``check(stdin, output, expected) -> bool`` that replaces the comparison."""

    cases: tuple[StdioCase, ...]
    float_tolerance: float = 0.0
    checker: str = ""
    rule: str = "lines"

    def __post_init__(self) -> None:
        _check_cases(self.cases, StdioCase)
        if self.rule not in TEXT_RULES:
            raise TaskError(f"rule must be one of {', '.join(TEXT_RULES)}, got {self.rule!r}")
        _check_tolerance(self.float_tolerance)
        _check_checker(self.checker)


def _check_cases(cases: object, kind: type) -> None:
    if type(cases) is not tuple or not cases or not all(type(case) is kind for case in cases):
        raise TaskError(f"cases must be a non-empty tuple of {kind.__name__}, got {cases!r:.80}; add a case")


def _check_code(code: str, what: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # published tests have odd escapes
            compile(code, "<tests>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        raise TaskError(f"{what} must be Python that compiles here, it does not ({error}); fix its code") from None


def _check_checker(code: str) -> None:
    if not code:
        return
    _check_code(code, "a checker")
    table = symtable.symtable(code, "<checker>", "exec")
    if "check" not in table.get_identifiers():
        raise TaskError(f"a checker must define a function check, got {code!r:.80}; name it so")


def _check_tolerance(distance: float) -> None:
    if not (math.isfinite(distance) and distance >= 0):
        raise TaskError(f"float_tolerance must be finite and at least 0, got {distance!r}; use 0.0")


Tests = CallTests | AssertTests | StdioTests


@dataclass(frozen=True, kw_only=True)
class Task:
    """One problem.

    ``prompt`` is code that a completion continues, or, with ``prompt_is_code=False``, a text that a whole
    program answers. ``entry_point`` is the function the tests call (``Solution.method`` for a method; empty
    for stdio). ``format`` names the published format it comes from, a key of ``sr_reward.rules.RULES``, which
    says what its grader adds to a program and how long it may run; ``starter`` is code that an answer to a text should
    begin with. ``tier``, ``family`` and ``reference`` (a whole program that solves it) are for those who make
    and choose tasks; the grader does not look at them. ``deterministic=False`` keeps equal programs of a
    batch from being run once.
    """

    task_id: str
    prompt: str
    entry_point: str
    tests: Tests
    tier: str = ""
    family: str = ""
    reference: str = ""
    prompt_is_code: bool = True
    deterministic: bool = True
    format: str = "native"
    starter: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.task_id, str) or not self.task_id:
            raise TaskError(f"task_id must be a non-empty string, got {self.task_id!r}; give each task a name")
        if not isinstance(self.tests, (CallTests, AssertTests, StdioTests)):
            raise TaskError(f"task {self.task_id}: tests must be Call-, Assert- or StdioTests, got {self.tests!r:.60}")
        if self.format not in RULES:
            raise TaskError(f"task {self.task_id}: format must be one of {', '.join(RULES)}, got {self.format!r}")
        parts = self.entry_point.split(".") if isinstance(self.entry_point, str) else [""]
        named = 1 <= len(parts) <= 2 and all(part.isidentifier() for part in parts)
        if not named and not (self.entry_point == "" and not isinstance(self.tests, CallTests)):
            raise TaskError(
                f"task {self.task_id}: entry_point must be a name or Class.method, got {self.entry_point!r}"
            )

    @property
    def imports(self) -> str:
        """What the grader of the task's format puts before a program that answers a text."""
        return RULES[self.format].imports
