"""Reads tasks and samples from the files the field publishes.

Rows are read one by one and recognized by what they hold; whatever is wrong is reported with file and line.
"""

from __future__ import annotations

import ast
import base64
import gzip
import io
import json
import pickle
import re
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, cast

from sr_reward.errors import FormatError, TaskError
from sr_reward.task import AssertTests, CallCase, CallTests, StdioCase, StdioTests, Task, Tests

FORMATS = ("auto", "native", "humaneval", "mbpp", "stdio")

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One answer to a task: a ``completion`` of its prompt, or (``solution``) a whole program."""

    task_id: str
    text: str
    solution: bool


def load_tasks(path: str | Path, format: str = "auto") -> list[Task]:
    """All tasks of a file: JSON lines (or one JSON array), plain or gzipped.

    ``format`` is one of ``FORMATS``; ``stdio`` covers the native stdio rows and APPS, CodeContests and
    LiveCodeBench as published (their function tests too). Raises FormatError, which names file and line, for
    anything that is not a task and for a second task of one name.
    """
    return list(iter_tasks(path, format))


def iter_tasks(path: str | Path, format: str = "auto") -> Iterator[Task]:
    """``load_tasks``, one task at a time."""
    if format not in FORMATS:
        raise FormatError(f"a task format must be one of {', '.join(FORMATS)}, got {format!r}")
    seen: dict[str, int] = {}
    for line, row in _rows(Path(path)):
        try:
            task = read_task(row, format)
        except FormatError as error:
            raise FormatError(f"{path}, line {line}: {error}") from None
        if task.task_id in seen:
            first = seen[task.task_id]
            raise FormatError(
                f"{path}, line {line}: task_id {task.task_id!r} stands already in line {first}; rename one"
            )
        seen[task.task_id] = line
        yield task
    if not seen:
        raise FormatError(f"{path} must hold at least one task, got none; check the path")


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


def load_samples(path: str | Path, tasks: dict[str, Task]) -> list[Sample]:
    """All samples of a file, each for one of ``tasks`` (by task_id). Raises FormatError with file and line."""
    samples = []
    for line, row in _rows(Path(path)):
        given = [key for key in ("completion", "solution") if key in row]
        if len(given) != 1 or not isinstance(row[given[0]], str):
            raise FormatError(
                f"{path}, line {line}: a sample holds one text, 'completion' or 'solution', "
                f"got {', '.join(given) or 'neither'}; keep one"
            )
        task_id = _known_id(row.get("task_id"), tasks)
        if task_id is None:
            raise FormatError(
                f"{path}, line {line}: task_id must be one of the {len(tasks)} tasks, got {row.get('task_id')!r}"
            )
        samples.append(Sample(task_id=task_id, text=row[given[0]], solution=given[0] == "solution"))
    if not samples:
        raise FormatError(f"{path} must hold at least one sample, got none; check the path")
    return samples


def _known_id(given: object, tasks: dict[str, Task]) -> str | None:
    if not isinstance(given, (str, int)) or isinstance(given, bool):
        return None
    name = str(given)
    for candidate in (name, name.rpartition("/")[2]):  # MBPP's 601 is also written Mbpp/601
        if candidate in tasks:
            return candidate
    return None


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    """``(line number, object)`` of a JSON-lines file, blank lines skipped, or of a JSON array."""
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                if number == 1 and line.lstrip().startswith("["):
                    yield from _array_rows(path, line + file.read())
                    return
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise FormatError(f"{path}, line {number}: each line must be JSON, got {error}") from None
                yield number, _object(row, path, number)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FormatError(f"{path} cannot be read: {reason}; give a JSON-lines file") from None


def _array_rows(path: Path, text: str) -> Iterator[tuple[int, Row]]:
    """The items of one JSON array, each with the line on which it begins."""
    decoder, position = json.JSONDecoder(), text.index("[") + 1
    skip = re.compile(r"[\s,]*")
    while True:
        position = cast("re.Match[str]", skip.match(text, position)).end()
        number = text.count("\n", 0, position) + 1
        if text[position : position + 1] == "]":
            return
        try:
            row, position = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"{path}, line {number}: the array must be JSON, got {error}") from None
        yield number, _object(row, path, number)


def _object(row: object, path: Path, number: int) -> Row:
    if not isinstance(row, dict):
        raise FormatError(f"{path}, line {number}: each row must be an object, got {type(row).__name__}")
    return row


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8")
    return path.open(encoding="utf-8")


# ---------------------------------------------------------------- one reader per format


def _read_task(row: Row, format: str) -> Task:
    for name, marks, read in _READERS:
        if all(mark in row for mark in marks) and format in ("auto", name):
            return read(row)
    raise FormatError(
        f"not a task in {'any known' if format == 'auto' else 'the ' + format} format, got the keys "
        f"{', '.join(sorted(row)) or 'none'}; a native task has task_id, prompt, entry_point and tests"
    )


def _native(row: Row) -> Task:
    tests = row["tests"]
    kind = tests.get("kind") if isinstance(tests, dict) else None
    if kind not in ("calls", "asserts", "stdio"):
        raise FormatError(f"tests.kind must be calls, asserts or stdio, got {kind!r}")
    built: Tests
    if kind == "asserts":
        built = AssertTests(code=tests["code"])
    elif kind == "calls":
        options = {key: tests[key] for key in ("float_tolerance", "exact_types", "checker") if key in tests}
        built = CallTests(cases=tuple(_native_case(case) for case in _list(tests, "cases")), **options)
    else:
        options = {key: tests[key] for key in ("float_tolerance", "checker") if key in tests}
        built = StdioTests(cases=tuple(_stdio_case(case) for case in _list(tests, "cases")), **options)
    prompt = _text(row, "prompt")
    return Task(
        task_id=_name(row["task_id"]),
        prompt=prompt,
        entry_point=row.get("entry_point", ""),
        tests=built,
        tier=row.get("tier", ""),
        family=row.get("family", ""),
        reference=row.get("reference", ""),
        prompt_is_code=bool(row.get("prompt_is_code", kind != "stdio")),
        deterministic=bool(row.get("deterministic", True)),
    )


def _native_case(case: Row) -> CallCase:
    if "expected" not in case:
        raise FormatError(f"a calls case must hold expected, got the keys {', '.join(sorted(case)) or 'none'}")
    return CallCase(
        args=tuple(_value(arg) for arg in _list(case, "args", [])),
        kwargs={key: _value(arg) for key, arg in case.get("kwargs", {}).items()},
        expected=_value(case["expected"]),
        accepted=tuple(_value(answer) for answer in _list(case, "accepted", [])),
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
    return StdioCase(stdin=case["stdin"], stdout=case["stdout"], accepted=tuple(_list(case, "accepted", [])))


def _humaneval(row: Row) -> Task:
    prompt, entry_point = _text(row, "prompt"), _text(row, "entry_point")
    return Task(
        task_id=_name(row["task_id"]),
        prompt=prompt,
        entry_point=entry_point,
        tests=AssertTests(code=f"{_text(row, 'test')}\n\ncheck({entry_point})\n"),
        reference=prompt + row.get("canonical_solution", ""),
    )


def _mbpp(row: Row) -> Task:
    asserts = [line.replace("\r\n", "\n") for line in _list(row, "test_list")]
    reference = row.get("code", "").replace("\r\n", "\n")
    setup = (row.get("test_setup_code") or "").replace("\r\n", "\n")
    imports = "\n".join(row.get("test_imports", []))
    return Task(
        task_id=_name(row["task_id"]),
        prompt=_text(row, "text" if "text" in row else "prompt"),
        entry_point=_called_name(asserts, reference),
        tests=AssertTests(code="\n".join([imports, setup, *asserts]) + "\n"),
        reference=reference,
        prompt_is_code=False,
    )


def _called_name(asserts: list[str], reference: str) -> str:
    """The function under test: of the names that the asserts call, the last that the reference defines."""
    called = [
        node.func.id
        for node in ast.walk(_parsed("\n".join(asserts)))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    defined = [node.name for node in _parsed(reference).body if isinstance(node, ast.FunctionDef)]
    both = [name for name in defined if name in called]
    if not both and not called:
        raise FormatError("test_list must call a function, got none")
    return both[-1] if both else called[0]


def _parsed(code: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the published code has odd escapes
        return ast.parse(code)


def _apps(row: Row) -> Task:
    cases = row["input_output"]
    cases = json.loads(cases) if isinstance(cases, str) else cases
    name = row.get("problem_id", row.get("id", row.get("task_id")))
    starter = row.get("starter_code") or ""
    question = row.get("question", row.get("prompt", ""))
    inputs, outputs = cases["inputs"], cases["outputs"]
    if len(inputs) != len(outputs):
        raise FormatError(f"inputs and outputs go in pairs, got {len(inputs)} and {len(outputs)}")
    entry_point = cases.get("fn_name") or ""
    tests: Tests
    if entry_point:
        # a published answer may stand in a list of its own
        tests = CallTests(
            cases=tuple(
                CallCase(args=tuple(args), expected=answer, accepted=_unwrapped(answer))
                for args, answer in zip(inputs, outputs, strict=True)
            ),
            exact_types=False,
        )
    else:
        tests = StdioTests(
            cases=tuple(
                StdioCase(stdin=_joined(given), stdout=_joined(answer))
                for given, answer in zip(inputs, outputs, strict=True)
            )
        )
    return Task(
        task_id=_name(name),
        prompt=f"{question}\n{starter}",
        entry_point=entry_point,
        tests=tests,
        prompt_is_code=False,
    )


def _unwrapped(answer: Any) -> tuple[Any, ...]:
    return (answer[0],) if isinstance(answer, list) and len(answer) == 1 else ()


def _joined(text: Any) -> str:
    return "\n".join(map(str, text)) if isinstance(text, list) else text


def _codecontests(row: Row) -> Task:
    cases = []
    for key in ("public_tests", "private_tests", "generated_tests"):
        group = row.get(key) or {"input": [], "output": []}
        pairs = zip(group["input"], group["output"], strict=True)
        cases += [StdioCase(stdin=given, stdout=answer) for given, answer in pairs]
    return Task(
        task_id=_name(row.get("name", row.get("task_id"))),
        prompt=row["description"],
        entry_point="",
        tests=StdioTests(cases=tuple(cases)),
        prompt_is_code=False,
    )


def _livecodebench(row: Row) -> Task:
    cases = json.loads(row["public_test_cases"]) + _private_cases(row.get("private_test_cases") or "[]")
    metadata = row.get("metadata") or "{}"
    entry_point = (json.loads(metadata) if isinstance(metadata, str) else metadata).get("func_name") or ""
    tests: Tests
    if entry_point:
        tests = CallTests(
            cases=tuple(
                CallCase(
                    args=tuple(json.loads(line) for line in case["input"].split("\n")),
                    expected=json.loads(case["output"]),
                )
                for case in cases
            ),
            exact_types=False,
        )
    else:
        tests = StdioTests(cases=tuple(StdioCase(stdin=case["input"], stdout=case["output"]) for case in cases))
    return Task(
        task_id=_name(row.get("question_id", row.get("task_id"))),
        prompt=f"{row['question_content']}\n{row.get('starter_code') or ''}",
        entry_point=entry_point,
        tests=tests,
        prompt_is_code=False,
    )


class _TextOnly(pickle.Unpickler):
    """Reads a pickled text; a pickle that names any class or function is refused."""

    def find_class(self, module: str, name: str) -> Any:
        raise FormatError(
            f"private_test_cases must be text, got a pickle that loads {module}.{name}; give the cases as a JSON list"
        )


def _private_cases(text: str) -> list[Row]:
    if text.lstrip().startswith("["):
        return cast("list[Row]", json.loads(text))
    try:
        packed = zlib.decompress(base64.b64decode(text))
        return cast("list[Row]", json.loads(_TextOnly(io.BytesIO(packed)).load()))
    except (zlib.error, pickle.UnpicklingError, EOFError, IndexError) as error:
        raise FormatError(
            f"private_test_cases must be JSON or its published packing, got {error}; give the cases as a JSON list"
        ) from None


_READERS: tuple[tuple[str, tuple[str, ...], Callable[[Row], Task]], ...] = (
    ("native", ("tests",), _native),
    ("stdio", ("tests",), _native),
    ("humaneval", ("test", "entry_point", "prompt"), _humaneval),
    ("mbpp", ("test_list",), _mbpp),
    ("stdio", ("input_output",), _apps),
    ("stdio", ("public_tests", "description"), _codecontests),
    ("stdio", ("public_test_cases", "question_content"), _livecodebench),
)


def _name(given: object) -> str:
    if not isinstance(given, (str, int)) or isinstance(given, bool):
        raise FormatError(f"task_id must be a text or a number, got {given!r}")
    return str(given)


def _text(row: Row, key: str) -> str:
    value = row[key]
    if not isinstance(value, str):
        raise FormatError(f"{key} must be a text, got {type(value).__name__}")
    return value


def _list(row: Row, key: str, default: list[Any] | None = None) -> list[Any]:
    value = row[key] if default is None else row.get(key, default)
    if not isinstance(value, list):
        raise FormatError(f"{key} must be a list, got {type(value).__name__}")
    return value
