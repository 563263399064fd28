"""Reading JSON, JSONL and printed dicts, with errors that name the file and the line."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sr_monitor.errors import MonitorError

HALF_WRITTEN = "the last line was half-written and was left out"


def jsonl(path: Path, notes: list[str], *, needed: bool = False) -> Iterator[dict[str, Any]]:
    """Objects of a JSONL file; a half-written last line is left out, with a note. A file not needed may be absent."""
    if not path.exists():
        if needed:
            raise MonitorError(f"{path}: no such file")
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = text.split("\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            if number == len(lines):
                notes.append(HALF_WRITTEN)
                return
            raise MonitorError(f"{path}:{number}: not JSON; correct or delete the line") from error
        if not isinstance(row, dict):
            raise MonitorError(f"{path}:{number}: one JSON object per line is needed, got {type(row).__name__}")
        yield row


def json_value(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
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
