"""What each published grader gives a program and asks of it, beside the comparison: imports, and seconds.

The comparison of printed texts is in ``sr_reward.grading.texts``; values of calls are compared as data
(``sr_reward.task.CallTests``). docs/grading.md has all of it as one table, with the sources.
"""

from __future__ import annotations

from dataclasses import dataclass

_CONTEST = [
    "string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics", "itertools",
    "functools", "operator", "io", "sys", "json",
]  # fmt: skip
_LEETCODE = ["sys", "time", "itertools", "collections", "math", "fractions", "random", "heapq"]
_RECURSION = "sys.setrecursionlimit(50_000)\n"
_DIGITS = "getattr(sys, 'set_int_max_str_digits', int)(50_000)\n"  # Python before 3.10.7 has no such limit


def _imports(names: list[str]) -> str:
    return "".join(f"import {name}\n" for name in names)


def _stars(names: list[str]) -> str:
    return "".join(f"from {name} import *\n" for name in names)


# later lines win where two modules share a name, so built-ins come last of those that hide them
CONTEST_IMPORTS = (
    _stars(_CONTEST) + "from builtins import *\nfrom typing import *\n" + _imports(_CONTEST) + _RECURSION + _DIGITS
)
LEETCODE_IMPORTS = (
    _imports(_LEETCODE)
    + "from itertools import accumulate, combinations, permutations, product\n"
    + "from collections import ChainMap, Counter, OrderedDict, defaultdict, deque\n"
    + "from functools import lru_cache\n"
    + "from math import ceil, cos, exp, fabs, floor, gcd, log, log2, sin, sqrt, tan\n"
    + "from heapq import *\n"
    + "from typing import *\n"
    + "stdin, stdout = sys.stdin, sys.stdout\n"
    + _RECURSION
)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """``imports`` precede a program; ``time_s`` is CPU time, per test where ``per_test``, else for all tests
    together; ``shown`` is the name by which people know the format."""

    shown: str
    time_s: float
    per_test: bool
    imports: str = ""


RULES = {
    "native": Rules(shown="sr-reward", time_s=3.0, per_test=True),
    "humaneval": Rules(shown="HumanEval", time_s=3.0, per_test=False),
    "mbpp": Rules(shown="MBPP", time_s=3.0, per_test=False),
    "evalplus": Rules(shown="EvalPlus", time_s=20.0, per_test=False),
    "apps": Rules(shown="APPS", time_s=4.0, per_test=True, imports=LEETCODE_IMPORTS),
    "taco": Rules(shown="TACO", time_s=4.0, per_test=True, imports=LEETCODE_IMPORTS),
    "codecontests": Rules(shown="CodeContests", time_s=10.0, per_test=True),
    "livecodebench": Rules(shown="LiveCodeBench", time_s=6.0, per_test=True, imports=CONTEST_IMPORTS),
    "deepcoder": Rules(shown="DeepCoder", time_s=12.0, per_test=True, imports=CONTEST_IMPORTS),
    "prime": Rules(shown="PRIME", time_s=10.0, per_test=True, imports=CONTEST_IMPORTS),
    "bigcodebench": Rules(shown="BigCodeBench", time_s=20.0, per_test=False),
    "kodcode": Rules(shown="KodCode", time_s=20.0, per_test=False),
}
