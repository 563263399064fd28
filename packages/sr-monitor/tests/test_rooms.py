"""Rooms of the package import in one direction."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import sr_monitor

# A room may import those listed with it, and errors.
MAY_IMPORT = {
    "analysis": {"analysis"},
    "guard": {"guard", "analysis"},
    "logs": {"logs", "analysis"},
    "report": {"report", "logs", "analysis"},
    "tracebench": {"tracebench", "guard", "analysis"},
    "integrations": {"integrations", "guard", "analysis"},
}
ROOT = Path(sr_monitor.__file__).parent


def test_every_folder_is_a_room_of_the_table() -> None:
    assert {p.parent.name for p in ROOT.glob("*/__init__.py")} == set(MAY_IMPORT)


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_rooms_below_it(room: str) -> None:
    for path in (ROOT / room).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            if module is not None and module.startswith("sr_monitor"):
                assert module == "sr_monitor.errors" or module.split(".")[1] in MAY_IMPORT[room], path
