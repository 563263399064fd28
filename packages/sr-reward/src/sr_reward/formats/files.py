"""Files of tasks and samples, read row by row; whatever is wrong is reported with file and line."""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO, cast

from sr_reward.errors import FormatError
from sr_reward.formats.fields import Row
from sr_reward.formats.rows import FORMATS, read_task
from sr_reward.task import Task


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
