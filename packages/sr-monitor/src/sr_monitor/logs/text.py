"""Reading text, JSON, JSONL and printed dicts, with errors that name the file and the line.

A byte order mark says the encoding, else it is UTF-8; undecodable bytes are replaced. gzip, bzip2 and xz are unpacked.
"""

from __future__ import annotations

import ast
import bz2
import codecs
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, BinaryIO, TextIO, cast

from sr_monitor.errors import MonitorError

HALF_WRITTEN = "the last line was half-written and was left out"
# What a packed file that ends early, or is damaged, raises beside OSError.
UNPACKING_FAILED = (EOFError, zlib.error, lzma.LZMAError)
_PACKED: Mapping[bytes, Callable[[BinaryIO], Any]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
}
_ENDINGS_OF_PACKED = (".gz", ".bz2", ".xz")
_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# Files that are no text, by their first bytes, and what to do with them.
_FOREIGN = {
    b"PK\x03\x04": "a zip archive; unpack it",
    b"PAR1": 'a Parquet file; export it with pandas.read_parquet(...).to_csv("log.csv", index=False)',
    b"SQLite format 3": "an SQLite database; export its metrics as CSV",
}


def ending(path: Path) -> str:
    """The suffix in lower case, without that of a packed file: ``.csv`` of ``LOG.CSV.gz``."""
    name = path.name.lower()
    for packed in _ENDINGS_OF_PACKED:
        name = name.removesuffix(packed)
    return PurePath(name).suffix.replace(".ndjson", ".jsonl")


def open_text(path: Path, newline: str | None = None) -> TextIO:
    """The file as text, unpacked and decoded. Raises MonitorError for a kind of file that is known to be no text."""
    file: Any = path.open("rb")
    try:
        head = file.read(16)
        file.seek(0)
        for start, what in _FOREIGN.items():
            if head.startswith(start):
                raise MonitorError(f"{path}: is {what}")
        for start, unpacked in _PACKED.items():
            if head.startswith(start):
                file = io.BufferedReader(unpacked(cast("BinaryIO", file)))
                head = file.peek(4)
        encoding = next((name for mark, name in _MARKS.items() if head.startswith(mark)), "utf-8")
    except BaseException:
        file.close()
        raise
    return io.TextIOWrapper(file, encoding=encoding, errors="replace", newline=newline)


def jsonl(path: Path, notes: list[str], *, needed: bool = False) -> Iterator[dict[str, Any]]:
    """Objects of a JSONL file. A file not needed may be absent.

    Lines that are no object, as a killed writer leaves them, are left out with a note; an error where they are not
    fewer than the others.
    """
    if not path.exists():
        if needed:
            raise MonitorError(f"{path}: no such file")
        return
    good, bad, first = 0, 0, ""
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                if not line.endswith("\n"):
                    notes.append(HALF_WRITTEN)
                    continue
                row, why = None, f"{path}:{number}: not JSON"
            else:
                why = f"{path}:{number}: one JSON object per line is needed, got {type(row).__name__}"
            if isinstance(row, dict):
                good += 1
                yield row
            else:
                bad, first = bad + 1, first or why
    if bad and bad >= good:
        raise MonitorError(f"{first}; correct or delete the line")
    if bad:
        notes.append(f"{bad} broken line(s) were left out, the first is {first}")


def first_row(path: Path) -> dict[str, Any]:
    """The first row of a file with a JSON object per line; empty where it is none, or one whole JSON document."""
    with open_text(path) as file:
        lines = (line for line in file if line.strip())
        line, further = next(lines, ""), next(lines, "")
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) and (further or ending(path) != ".json") else {}


def json_value(path: Path) -> Any:
    try:
        with open_text(path) as file:
            return json.load(file)
    except (ValueError, RecursionError) as error:
        raise MonitorError(f"{path}: not JSON; is it still being written?") from error


def json_object(path: Path) -> dict[str, Any]:
    """The object in a file; empty where the file is absent or holds something else."""
    value = json_value(path) if path.exists() else {}
    return value if isinstance(value, dict) else {}


def printed_dict(text: str) -> dict[str, Any]:
    """A dict as ``print`` shows it: of literals, ``nan``, ``inf``, and numbers inside their type as in
    ``np.float64(0.5)``. Raises ValueError or SyntaxError for anything else.
    """
    values = ast.literal_eval(_AsLiterals().visit(ast.parse(text, mode="eval")))
    if not isinstance(values, dict):
        raise ValueError(f"not a dict: {text}")
    return {str(name): value for name, value in values.items()}


class _AsLiterals(ast.NodeTransformer):
    """Replaces ``nan`` and ``inf`` by literals, and calls by their first argument."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Constant(float(node.id)) if node.id in ("nan", "inf") else node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        inner: ast.expr = self.visit(node.args[0]) if node.args else node
        return inner
