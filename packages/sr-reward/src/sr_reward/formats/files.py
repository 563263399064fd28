"""Files of rows, read one by one; whatever is wrong is reported with file and line."""

from __future__ import annotations

import gzip
import io
import json
import logging
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO, cast

from sr_reward.errors import FormatError
from sr_reward.formats.fields import Row, Unusable, read_json, whole
from sr_reward.formats.rows import FORMATS, read_task
from sr_reward.task import Task

_log = logging.getLogger("sr_reward")
_GZIP = b"\x1f\x8b"
_CONVERT = "; with the package datasets, Dataset.{}({{!r}}).to_json('rows.jsonl') writes it as JSON lines"
_REFUSED = {  # the first bytes of files that are not read, what they are, and the way out
    b"PAR1": "a Parquet file" + _CONVERT.format("from_parquet"),
    b"ARROW1": "an Arrow file" + _CONVERT.format("from_file"),
    b"\xff\xff\xff\xff": "an Arrow file" + _CONVERT.format("from_file"),  # a stream, as save_to_disk writes it
    b"PK\x03\x04": "a zip archive; unpack it",
    b"\x28\xb5\x2f\xfd": "a file packed by zstd; unpack it",
    b"\xfd7zXZ": "a file packed by xz; unpack it",
    b"BZh": "a file packed by bzip2; unpack it",
}
_DATA = (".jsonl", ".json", ".gz", ".parquet", ".arrow")


@dataclass(kw_only=True)
class Skipped:
    """The rows of a file that cannot be graded: how many for each reason, and their names where they have one.

    ``rows``: a name for each row of the file, in its order, that of its task if it has one. ``samples``: how many
    samples of skipped tasks were left out.
    """

    reasons: Counter[str] = field(default_factory=Counter)
    names: set[str] = field(default_factory=set)
    rows: list[str] = field(default_factory=list)
    samples: int = 0

    @property
    def count(self) -> int:
        return sum(self.reasons.values())

    def describe(self) -> str:
        """``3 rows skipped: 2 without tests, 1 ...; 5 samples of them left out``"""
        parts = ", ".join(f"{count} {reason}" for reason, count in self.reasons.most_common())
        samples = f"; {self.samples} sample{'s' if self.samples > 1 else ''} of them left out" if self.samples else ""
        return f"{self.count} row{'s' if self.count > 1 else ''} skipped: {parts}{samples}"


def load_tasks(path: str | Path, format: str = "auto", *, skipped: Skipped | None = None) -> list[Task]:
    """All tasks of a file: JSON lines or one JSON array, plain or gzipped whatever its name, with or without a
    byte-order mark.

    ``format`` is one of ``FORMATS``; ``stdio`` covers native stdio rows and every format of contest problems. A
    published row that is well-formed and cannot be graded (no tests, say) is skipped: ``skipped`` is told, else a
    warning is logged. Where published rows share a name, later ones are called ``NAME#2`` and so on. Raises
    FormatError, which names file and line, for anything that is not a task and for two native tasks of one name.
    """
    told = skipped if skipped is not None else Skipped()
    found = list(iter_tasks(path, format, skipped=told))
    if told.count and skipped is None:
        _log.warning("%s: %s", path, told.describe())
    return found


def iter_tasks(path: str | Path, format: str = "auto", *, skipped: Skipped | None = None) -> Iterator[Task]:
    """``load_tasks``, one task at a time."""
    return (task for task, _ in iter_tasks_and_rows(path, format, skipped=skipped))


def iter_tasks_and_rows(
    path: str | Path, format: str = "auto", *, skipped: Skipped | None = None
) -> Iterator[tuple[Task, Row]]:
    """The same with the row that each task was read from."""
    if format not in FORMATS:
        raise FormatError(f"a task format must be one of {', '.join(FORMATS)}, got {format!r}")
    told = skipped if skipped is not None else Skipped()
    seen: dict[str, int] = {}
    copies: Counter[str] = Counter()
    number = -1
    for number, (line, row) in enumerate(iter_rows(Path(path))):
        try:
            task = read_task(row, format, number=number)
        except Unusable as error:
            told.reasons[str(error)] += 1
            told.rows.append(f"row {line}, skipped")
            told.names.update((*_names(row, number), told.rows[-1]))
            continue
        except FormatError as error:
            raise FormatError(f"{path}, line {line}: {error}") from None
        name = task.task_id
        if name in seen and task.format == "native":
            raise FormatError(f"{path}, line {line}: task_id {name!r} stands already in line {seen[name]}; rename one")
        while task.task_id in seen:
            copies[name] += 1
            task = replace(task, task_id=f"{name}#{copies[name] + 1}")
        seen[task.task_id] = line
        told.rows.append(task.task_id)
        yield task, row
    if not seen:
        raise FormatError(
            f"{path} must hold at least one task, got none"
            + (f" ({told.describe()})" if told.count else "")
            + "; check the path"
        )


def iter_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """``(line number, object)`` of a JSON-lines file, blank lines skipped, of a JSON array, or of one object."""
    for number, row in iter_values(path):
        if not isinstance(row, dict):
            raise FormatError(f"{path}, line {number}: each row must be an object, got {type(row).__name__}")
        yield number, row


def iter_values(path: Path) -> Iterator[tuple[int, Any]]:
    """The same for values of any kind."""
    first = True
    try:
        with _open(path) as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                if first and line.lstrip().startswith("["):
                    yield from _array_rows(path, "\n" * (number - 1) + line + file.read())
                    return
                try:
                    row = read_json(line)
                except (ValueError, RecursionError) as error:
                    row = _one_object(line + file.read()) if first else None
                    if row is None:
                        raise FormatError(f"{path}, line {number}: each line must be JSON, got {error}") from None
                first = False
                yield number, row
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FormatError(f"{path} cannot be read: {reason}; give a JSON-lines file") from None


def _one_object(text: str) -> Row | None:
    """The object that a file of many lines is; None where it is none."""
    try:
        found = read_json(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _array_rows(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    """The items of one JSON array, each with the line on which it begins."""
    decoder, position = json.JSONDecoder(parse_int=whole), text.index("[") + 1
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
        yield number, row


@contextmanager
def _open(path: Path) -> Iterator[TextIO]:
    """The text of a file, which is read once: a pipe will do. Raises FormatError for a folder or for what is known and
    not read, with the way out."""
    if path.is_dir():
        found = sorted(entry.name for entry in path.rglob("*") if entry.suffix in _DATA)
        raise FormatError(f"{path} is a folder; give one file" + (f", such as {found[0]}" if found else ""))
    with path.open("rb") as file:
        begin = file.peek(6)
        for mark, what in _REFUSED.items():
            if begin.startswith(mark):
                raise FormatError(f"{path} must be text, plain or gzipped, got {what.format(str(path))}")
        unpacked = gzip.GzipFile(fileobj=file) if begin.startswith(_GZIP) else file
        with io.TextIOWrapper(unpacked, encoding="utf-8-sig") as text:
            yield text


def _names(row: Row, number: int) -> set[str]:
    """What samples may call a row that is no task: by its keys, or by its number as tasks without a name are."""
    keys = ("task_id", "problem_id", "question_id", "id", "name")
    found = {str(row[key]) for key in keys if isinstance(row.get(key), (str, int)) and row[key] != ""}
    extra = row.get("extra_info")
    if isinstance(extra, dict) and "index" in extra:
        found.add(f"prime/{extra['index']}")
    return found or {str(number), *(f"{format}/{number}" for format in FORMATS)}
