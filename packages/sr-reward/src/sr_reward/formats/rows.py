"""One row, one task: which format it is in says what it holds."""

from __future__ import annotations

from collections.abc import Callable

from sr_reward.errors import FormatError, TaskError
from sr_reward.formats.fields import Row
from sr_reward.formats.native import native
from sr_reward.formats.published import apps, codecontests, humaneval, livecodebench, mbpp
from sr_reward.task import Task

FORMATS = ("auto", "native", "humaneval", "mbpp", "stdio")

_READERS: tuple[tuple[str, tuple[str, ...], Callable[[Row], Task]], ...] = (
    ("native", ("tests",), native),
    ("stdio", ("tests",), native),
    ("humaneval", ("test", "entry_point", "prompt"), humaneval),
    ("mbpp", ("test_list",), mbpp),
    ("stdio", ("input_output",), apps),
    ("stdio", ("public_tests", "description"), codecontests),
    ("stdio", ("public_test_cases", "question_content"), livecodebench),
)


def read_task(row: Row, format: str = "auto") -> Task:
    """The task of one row (a parsed JSON object). Raises FormatError."""
    try:
        return _read_task(row, format)
    except TaskError as error:
        raise FormatError(str(error)) from None
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, SyntaxError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"not a task ({type(error).__name__}: {error})") from None


def _read_task(row: Row, format: str) -> Task:
    for name, marks, read in _READERS:
        if all(mark in row for mark in marks) and format in ("auto", name):
            return read(row)
    raise FormatError(
        f"not a task in {'any known' if format == 'auto' else 'the ' + format} format, got the keys "
        f"{', '.join(sorted(row)) or 'none'}; a native task has task_id, prompt, entry_point and tests"
    )
