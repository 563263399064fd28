"""One row, one task: which format it is in says what it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sr_reward.errors import FormatError, TaskError
from sr_reward.formats.contests import apps, codecontests, codeforces, deepcoder, livecodebench, prime
from sr_reward.formats.evalplus import evalplus
from sr_reward.formats.fields import Row
from sr_reward.formats.functions import bigcodebench, humaneval, kodcode, leetcode, mbpp
from sr_reward.formats.native import native
from sr_reward.task import Task

FORMATS = (
    "auto", "native", "humaneval", "mbpp", "evalplus", "stdio", "apps", "taco", "codecontests", "livecodebench",
    "deepcoder", "prime", "bigcodebench", "kodcode",
)  # fmt: skip

_STDIO = ("native", "apps", "taco", "codecontests", "livecodebench", "deepcoder", "prime")
_READERS: tuple[tuple[tuple[str, ...], tuple[str, ...], Callable[[Row], Task]], ...] = (
    # formats by which one may call it; keys that mark a row of it; its reader
    (("deepcoder",), ("tests", "problem"), deepcoder),
    (("bigcodebench",), ("complete_prompt", "test", "entry_point"), bigcodebench),
    (("humaneval",), ("test", "entry_point", "problem_description", "starter_code"), leetcode),
    (("humaneval", "evalplus"), ("test", "entry_point", "prompt"), humaneval),
    (("evalplus",), ("base_input", "canonical_solution"), evalplus),
    (("mbpp",), ("test_list",), mbpp),
    (("apps", "taco"), ("input_output",), apps),
    (("codecontests",), ("public_tests", "description"), codecontests),
    (("codecontests",), ("official_tests", "description"), codeforces),
    (("livecodebench",), ("public_test_cases", "question_content"), livecodebench),
    (("prime",), ("reward_model", "prompt"), prime),
    (("prime",), ("verification_info", "prompt"), prime),
    (("kodcode",), ("question", "test"), kodcode),
    (("native",), ("tests",), native),
)


def read_task(row: Row, format: str = "auto", *, number: int = 0) -> Task:
    """The task of one row (a parsed JSON object). A row without a name gets one of its format and ``number``.
    Raises FormatError; ``formats.fields.Unusable``, a subclass, where the row is well-formed and cannot be graded."""
    try:
        return _read_task(row, format, number)
    except TaskError as error:
        raise FormatError(str(error)) from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, SyntaxError, IndexError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"not a task ({type(error).__name__}: {error})") from None


def _read_task(row: Row, format: str, number: int) -> Task:
    for names, marks, read in _READERS:
        if not all(mark in row for mark in marks):
            continue
        if format in ("auto", *names) or (format == "stdio" and names[0] in _STDIO):
            return _named(row, read, number)
    raise FormatError(
        f"not a task in {'any known' if format == 'auto' else 'the ' + format} format, got the keys "
        f"{', '.join(sorted(row)) or 'none'}; a native task has task_id, prompt, entry_point and tests"
    )


def _named(row: Row, read: Callable[[Row], Task], number: int) -> Task:
    """Published rows without a name get one: TACO's and DeepCoder's have none."""
    try:
        return read(row)
    except TaskError as error:
        if "task_id" in row or "task_id must" not in str(error):
            raise
    task = read({**row, "task_id": "?"})
    return replace(task, task_id=f"{task.format or 'native'}/{number}")
