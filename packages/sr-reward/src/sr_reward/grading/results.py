"""The rows that grading writes: one per sample, in input order, resumable."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sr_reward.canonical import canonical
from sr_reward.errors import FormatError
from sr_reward.formats import Sample
from sr_reward.grading.grade import OUTCOMES, Grade
from sr_reward.task import Task


class ResultFile:
    """Appends a row per sample, in input order, as grades arrive in any order.

    A file that already holds rows is continued: ``rows`` are those of its complete lines, which must belong to the
    first samples; a last line that was cut short by a kill, and begins as the next row does, is written anew. Anything
    else in the file is an error (FormatError), and the file stays as it is. A row's ``digest`` is of its task and of
    the sample's text.
    """

    def __init__(self, path: str | Path, samples: Sequence[Sample], tasks: Mapping[str, Task]) -> None:
        self.path = Path(path)
        self._identities = _identities(samples, tasks)
        self._early: dict[int, Grade] = {}
        self.rows: list[dict[str, Any]] = []
        try:
            size = self._read_rows() if self.path.is_file() else 0
            self._file = self.path.open("ab")
            if self.path.is_file():
                self._file.truncate(size)
        except OSError as error:
            raise self._failure(error) from None

    def _read_rows(self) -> int:
        size = 0
        for number, line in enumerate(self.path.read_bytes().splitlines(keepends=True), 1):
            if not line.endswith(b"\n") and self._begins_a_row(number, line):
                break
            try:
                row = json.loads(line)
                known = row["outcome"] in OUTCOMES and number <= len(self._identities)
                fits = known and (row["task_id"], row["sample"], row["digest"]) == self._identities[number - 1]
            except (ValueError, KeyError, TypeError):
                fits = False
            if not fits:
                raise FormatError(
                    f"{self.path}, line {number}: the output file holds another run, or something else; name a new file"
                )
            self.rows.append(row)
            size += len(line)
        return size

    def _begins_a_row(self, number: int, line: bytes) -> bool:
        """Whether a line without an end is the beginning of the row of this number."""
        if number > len(self._identities):
            return False
        task_id, sample, _ = self._identities[number - 1]
        row = json.dumps({"task_id": task_id, "sample": sample, "outcome": ""}).encode().removesuffix(b'"}')
        return line.startswith(row) or row.startswith(line)

    def add(self, index: int, grade: Grade) -> None:
        """Take the grade of sample ``index``; write every row whose turn has come. Raises FormatError if the disk
        refuses it."""
        self._early[index] = grade
        try:
            while len(self.rows) in self._early:
                ready = self._early.pop(len(self.rows))
                task_id, sample, digest = self._identities[len(self.rows)]
                row = {
                    "task_id": task_id,
                    "sample": sample,
                    "outcome": ready.outcome,
                    "seconds": round(ready.seconds, 6),
                    "detail": ready.detail,
                    "separation": ready.separation,
                    "digest": digest,
                }
                self._file.write(json.dumps(row).encode() + b"\n")
                self.rows.append(row)
            self._file.flush()
        except OSError as error:
            raise self._failure(error) from None

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            raise self._failure(error) from None

    def _failure(self, error: OSError) -> FormatError:
        return FormatError(f"{self.path} cannot be written: {error.strerror}; make room or name another file")


def _identities(samples: Sequence[Sample], tasks: Mapping[str, Task]) -> list[tuple[str, int, str]]:
    """``(task_id, number of the sample within its task, digest)`` per sample."""
    seen: Counter[str] = Counter()
    known: dict[str, str] = {}
    found = []
    for sample in samples:
        name = sample.task_id
        if name not in known:
            known[name] = _digest(canonical(tasks[name]))
        found.append((name, seen[name], _digest(f"{known[name]} {sample.solution} {sample.text}")))
        seen[name] += 1
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
